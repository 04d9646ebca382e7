"""The critic (fake score) learns the student's distribution by flow matching."""

import jax
import jax.numpy as jnp

from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import dmd
from asymtalker_jax.flow import losses, path


def loss(
    velocity: types.Velocity,
    x0: jax.Array,
    view: types.Conditioning,
    key: jax.Array,
    *,
    shift: float,
) -> jax.Array:
  """Velocity MSE against eps - x0_gen on the generated slots, a scalar.

  Args:
    velocity: the critic's, differentiable, without guidance.
    x0: [B, T, H, W, C] a fresh sample of the student.
    view: the critic's view of the continuity.
    key: noise level and noise.
    shift: k of the noise level density.
  """
  x0 = jax.lax.stop_gradient(x0)
  noisy, sigma, noise = dmd.noisy_score_input(x0, view, key, shift)
  v = velocity(noisy, path.TIMESTEPS * sigma, view)
  return jnp.mean(
      losses.velocity_mse(v, path.velocity_target(x0, noise), view.mask)
  )
