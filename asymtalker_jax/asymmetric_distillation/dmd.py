r"""Distribution matching distillation, docs/method.md (2) and (3).

  grad = (fake_x0 - real_x0) / mean|x0_gen - real_x0|                      (2)
  L_G  = 1/2 MSE(x0_gen, sg(x0_gen - grad)) + lambda MSE(x0_gen, g_k)      (3)

All means run over the non-continuity slots only, (2) per example. The gradient
of the first term with respect to x0_gen is grad / (number of elements). The
formulas follow Self-Forcing `model/dmd.py`; unlike there a NaN is not replaced
by zero, so that a broken teacher stops the run.
"""

import jax
import jax.numpy as jnp

from asymtalker_jax import types
from asymtalker_jax.flow import losses, path, samplers
from asymtalker_jax.flow import noise as noise_lib

MIN_SIGMA, MAX_SIGMA = 0.02, 0.98


def noisy_score_input(
    x0: jax.Array,
    conditioning: types.Conditioning,
    key: jax.Array,
    shift: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Noises the generated slots; continuity slots stay clean.

  Returns:
    (noisy [B, T, H, W, C], sigma [B], noise like x0).
  """
  level_key, noise_key = noise_lib.split(key)
  sigma = path.sample_sigma(
      level_key, x0.shape[0], shift, MIN_SIGMA, MAX_SIGMA
  )
  noise = noise_lib.normal(noise_key, x0.shape)
  noisy = path.add_noise(x0, noise, sigma)
  return samplers.hold_clean(noisy, conditioning), sigma, noise


def gradient(
    x0: jax.Array, real_x0: jax.Array, fake_x0: jax.Array, clean: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Equation (2).

  Args:
    x0: [B, T, H, W, C] the student's sample.
    real_x0: the teacher's clean estimate of the noised sample.
    fake_x0: the critic's.
    clean: [B, T] 1 on continuity slots, whose gradient is zero.

  Returns:
    (grad like x0, normaliser [B]).
  """
  generated = path.expand(1.0 - clean, x0.ndim)
  normaliser = losses.masked_mean(jnp.abs(x0 - real_x0), 1.0 - clean)
  grad = (fake_x0 - real_x0) / path.expand(normaliser, x0.ndim)
  return grad * generated, normaliser


def loss(
    x0: jax.Array,
    target: jax.Array,
    real: tuple[types.Velocity, types.Conditioning],
    fake: tuple[types.Velocity, types.Conditioning],
    key: jax.Array,
    *,
    shift: float,
    regression_weight: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Equation (3), averaged over the batch.

  Args:
    x0: [B, T, H, W, C] the student's sample, differentiable.
    target: [B, T, H, W, C] ground-truth window g_k of the regression term.
    real: the teacher's velocity (with guidance) and its view.
    fake: the critic's velocity and its view. Both views hold the same slots.
    key: noise level and noise, shared by both scores.
    shift: k of the noise level density.
    regression_weight: lambda.

  Returns:
    (scalar loss, scalars to log).
  """
  sample = jax.lax.stop_gradient(x0)

  def score(velocity, view):
    noisy, sigma, _ = noisy_score_input(sample, view, key, shift)
    v = velocity(noisy, path.TIMESTEPS * sigma, view)
    return path.predict_x0(noisy, v, sigma)

  clean = real[1].mask
  real_x0, fake_x0 = score(*real), score(*fake)
  grad, normaliser = gradient(sample, real_x0, fake_x0, clean)
  grad = jax.lax.stop_gradient(grad)
  matching = 0.5 * losses.masked_mean(
      jnp.square(x0 - (sample - grad)), 1.0 - clean
  )
  regression = losses.masked_mean(jnp.square(x0 - target), 1.0 - clean)
  total = jnp.mean(matching + regression_weight * regression)
  logs = {
      'dmd': jnp.mean(matching),
      'regression': jnp.mean(regression),
      'dmd_normaliser': jnp.mean(normaliser),
      'dmd_gradient': jnp.mean(jnp.abs(grad)),
  }
  if regression_weight:
    pulled = regression_weight * logs['regression']
    logs['dmd_to_regression'] = logs['dmd'] / pulled
  return total, logs
