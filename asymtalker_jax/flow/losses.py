"""Flow-matching losses, one value per example.

The bell weight follows the AR diffusion trainer of Self-Forcing
(utils/scheduler.py): exp(-2 (sigma - 1/2)^2), moved to zero at its
minimum and scaled so that its mean over the shifted 1000-point grid is one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.flow import path

WEIGHTINGS = ('bell', 'uniform')


def _bell(sigma):
  return jnp.exp(-2.0 * (sigma - 0.5) ** 2)


def loss_weight(sigma: jax.Array, weighting: str, k: float) -> jax.Array:
  """Weight of a training example at noise level sigma [B] -> [B].

  Args:
    sigma: noise levels in [0, 1], already shifted.
    weighting: 'bell' or 'uniform' (weight 1).
    k: shift of the training density, which fixes the bell's scale.

  Raises:
    ValueError: unknown weighting.
  """
  if weighting == 'uniform':
    return jnp.ones_like(sigma)
  if weighting != 'bell':
    raise ValueError(f'weighting {weighting!r}: expected one of {WEIGHTINGS}')
  grid = path.shift(np.arange(1, 1001) / path.TIMESTEPS, k)
  bell = np.exp(-2.0 * (grid - 0.5) ** 2)
  low, scale = bell.min(), (bell - bell.min()).mean()
  return (_bell(sigma) - low) / scale


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean per example over the latent frames where mask is 1.

  Args:
    values: [B, T, ...].
    mask: [B, T], at least one 1 per example.

  Returns:
    [B] float32.
  """
  per_frame = values.astype(jnp.float32).reshape(*mask.shape, -1).mean(-1)
  return (per_frame * mask).sum(-1) / mask.sum(-1)


def velocity_mse(
    v: jax.Array,
    target: jax.Array,
    clean_mask: jax.Array,
    weight: jax.Array | None = None,
) -> jax.Array:
  """Squared error of the velocity over noised slots only, [B].

  Args:
    v: [B, T, H, W, C] prediction.
    target: [B, T, H, W, C] noise - x0.
    clean_mask: [B, T] 1 on continuity slots, which carry no noise.
    weight: [B, T, H, W, 1] of each latent cell, see `motion_weight`.
  """
  error = jnp.square(v - target)
  if weight is not None:
    error = error * weight
  return masked_mean(error, 1.0 - clean_mask)


def motion_weight(latents: jax.Array, strength: float) -> jax.Array:
  """Weight of each latent cell [B, T, H, W, 1], larger where the clip moves.

  1 + strength * d / mean(d), divided by its mean, where d is the distance of a
  cell from its mean over time. A portrait is mostly background; this is what
  keeps a mouth of a few cells from being lost in the mean. Slot 0 has
  statistics of its own and does not count in the means over time.

  Args:
    latents: [B, T, H, W, C] ground truth.
    strength: 0 gives weight 1 everywhere.
  """
  change = jnp.abs(latents - latents[:, 1:].mean(1, keepdims=True))
  change = change[:, 1:].mean((1, -1), keepdims=True)
  axes = (1, 2, 3, 4)
  weight = 1.0 + strength * change / (change.mean(axes, keepdims=True) + 1e-6)
  weight = weight / weight.mean(axes, keepdims=True)
  return jnp.broadcast_to(weight, (*latents.shape[:-1], 1))
