r"""The straight path between data and noise, docs/method.md (1).

  x_t = (1 - sigma) x0 + sigma eps                                         (1)
  v   = eps - x0                                                           (2)
  x0  = x_t - sigma v                                                      (3)
  timestep = 1000 sigma                                                    (4)
  shift(sigma) = k sigma / (1 + (k - 1) sigma)                             (5)

Everything is float32; sigma broadcasts from its leading axes, so it may be
one number per example [B] or one per latent frame [B, T].
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.flow import noise as noise_lib

TIMESTEPS = 1000.0


def shift(sigma, k: float):
  """Equation (5): moves noise levels in [0, 1] towards noise for k > 1."""
  return k * sigma / (1.0 + (k - 1.0) * sigma)


def expand(sigma: jax.Array, ndim: int) -> jax.Array:
  """Appends axes of length one until `sigma` has `ndim` axes."""
  sigma = jnp.asarray(sigma, jnp.float32)
  return sigma.reshape(sigma.shape + (1,) * (ndim - sigma.ndim))


def add_noise(x0: jax.Array, noise: jax.Array, sigma: jax.Array) -> jax.Array:
  """Equation (1)."""
  sigma = expand(sigma, x0.ndim)
  return (1.0 - sigma) * x0 + sigma * noise


def velocity_target(x0: jax.Array, noise: jax.Array) -> jax.Array:
  """Equation (2)."""
  return noise - x0


def predict_x0(x: jax.Array, v: jax.Array, sigma: jax.Array) -> jax.Array:
  """Equation (3)."""
  return x - expand(sigma, x.ndim) * v


def sample_sigma(
    key: jax.Array, batch: int, k: float, low: float = 0.0, high: float = 1.0
) -> jax.Array:
  """Noise levels [B]: uniform, shifted by (5), then clamped to [low, high]."""
  return jnp.clip(shift(noise_lib.uniform(key, (batch,)), k), low, high)


def shifted_sigmas(timesteps: Sequence[float], k: float) -> np.ndarray:
  """Noise levels of a sampler, with the final zero appended.

  Args:
    timesteps: unshifted, descending, in (0, 1000].
    k: shift.

  Returns:
    [len(timesteps) + 1] float32; (1000, 750, 500, 250) at k = 5 gives
    (1, 0.9375, 0.8333, 0.625, 0).

  Raises:
    ValueError: timesteps that do not descend within (0, 1000].
  """
  steps = np.asarray(timesteps, np.float64)
  if (
      steps.ndim != 1
      or not steps.size
      or steps.max() > TIMESTEPS
      or steps.min() <= 0
      or np.any(np.diff(steps) >= 0)
  ):
    raise ValueError(
        f'timesteps {list(timesteps)}: expected descending values in (0, 1000]'
    )
  return np.append(shift(steps / TIMESTEPS, k), 0.0).astype(np.float32)
