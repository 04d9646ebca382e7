"""Samplers over a velocity function: few-step (stochastic) and guided Euler.

All hold the continuity slots clean: before every network call the slots with
mask 1 are overwritten by the conditioning's clean latents, and once more at the
end, as FlashHead's pipeline does.

The released FlashHead models ran in bfloat16 down to the timestep: with
rounding 'bfloat16' the network sees 936, 832 and 624 for 937.5, 833.33 and 625,
and the noise levels of the update are rounded likewise. 'float32' is exact.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.flow import noise as noise_lib
from asymtalker_jax.flow import path


def rounded(x: jax.Array, rounding: str) -> jax.Array:
  """x in float32, with the values of the type `rounding`, of types.ROUNDINGS.

  Raises:
    ValueError: unknown rounding.
  """
  if rounding not in types.ROUNDINGS:
    raise ValueError(
        f'rounding {rounding!r}: expected one of {types.ROUNDINGS}'
    )
  x = jnp.asarray(x, jnp.float32)
  if rounding == 'float32':
    return x
  # Not a cast there and back: XLA may take that out.
  return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def hold_clean(
    x: jax.Array, conditioning: types.Conditioning
) -> jax.Array:
  """x [B, T, H, W, C] with continuity slots replaced by their clean latents."""
  mask = path.expand(conditioning.mask, x.ndim)
  return jnp.where(mask > 0, conditioning.continuity, x)


def without_audio(conditioning: types.Conditioning) -> types.Conditioning:
  """The null-audio conditioning of guidance; reference and continuity stay."""
  return dataclasses.replace(
      conditioning, audio=jnp.zeros_like(conditioning.audio)
  )


def guided(
    velocity: types.Velocity,
    scale: float,
    weak: types.Velocity | None = None,
) -> types.Velocity:
  """u + scale (c - u), where u drops the audio only; scale 1 is one call.

  Args:
    velocity: of a network.
    scale: 1 is no guidance.
    weak: answers u, a worse network than `velocity` (skip guidance). Without,
      `velocity` answers both as one batch of 2B.
  """
  if scale == 1.0:
    return velocity

  def guided_velocity(x, timestep, conditioning):
    null = without_audio(conditioning)
    if weak:
      c = velocity(x, timestep, conditioning)
      u = weak(x, timestep, null)
    else:
      double = lambda a, b: jax.tree.map(
          lambda u, v: jnp.concatenate([u, v]), a, b
      )
      both = velocity(
          double(x, x), double(timestep, timestep), double(conditioning, null)
      )
      c, u = jnp.split(both, 2)
    return u + scale * (c - u)

  return guided_velocity


def predict_x0_at(
    velocity: types.Velocity,
    x: jax.Array,
    sigma: jax.Array,
    conditioning: types.Conditioning,
    rounding: str = 'float32',
) -> jax.Array:
  """Clean estimate of x [B, T, H, W, C] at one noise level (a scalar)."""
  x = hold_clean(x, conditioning)
  sigma = jnp.broadcast_to(jnp.asarray(sigma, jnp.float32), x.shape[:1])
  timestep = rounded(path.TIMESTEPS * sigma, rounding)
  v = velocity(x, timestep, conditioning)
  return path.predict_x0(x, v, rounded(sigma, rounding))


def few_step(
    velocity: types.Velocity,
    conditioning: types.Conditioning,
    sigmas: np.ndarray,
    key: jax.Array,
    rounding: str = 'float32',
) -> jax.Array:
  """Student's sampler: predict x0, re-noise with fresh noise, repeat.

  Args:
    velocity: of the student; no guidance.
    conditioning: batch of B.
    sigmas: [N + 1] descending noise levels that end in 0
      (`path.shifted_sigmas`).
    key: noise of step n is drawn from fold_in(key, n).
    rounding: of timesteps and noise levels, one of types.ROUNDINGS.

  Returns:
    [B, T, H, W, C] clean latents, continuity slots exactly as given.
  """
  sigmas = jnp.asarray(sigmas, jnp.float32)

  zeros = jnp.zeros(conditioning.continuity.shape)

  def step(n, x0):
    x = renoise(x0, rounded(sigmas[n], rounding), key, n)
    return predict_x0_at(velocity, x, sigmas[n], conditioning, rounding)

  x0 = jax.lax.fori_loop(0, len(sigmas) - 1, step, zeros)
  return hold_clean(x0, conditioning)


def renoise(x0: jax.Array, sigma, key: jax.Array, step) -> jax.Array:
  """Fresh noise of sampler step `step` at level sigma; at sigma 1 pure noise."""
  noise = noise_lib.normal(noise_lib.fold_in(key, step), x0.shape)
  return path.add_noise(x0, noise, sigma)


def euler(
    velocity: types.Velocity,
    conditioning: types.Conditioning,
    sigmas: np.ndarray,
    noise: jax.Array,
    rounding: str = 'float32',
) -> jax.Array:
  """Deterministic ODE sampler x <- x - v (sigma_n - sigma_{n+1}).

  Used by the multi-step teacher, with `guided`.

  Args:
    velocity: usually `guided(teacher, scale)`.
    conditioning: batch of B.
    sigmas: [N + 1] descending noise levels that end in 0.
    noise: [B, T, H, W, C] start at sigma 1.
    rounding: of timesteps and step lengths, one of types.ROUNDINGS.

  Returns:
    [B, T, H, W, C] clean latents, continuity slots exactly as given.
  """
  sigmas = jnp.asarray(sigmas, jnp.float32)

  def step(n, x):
    x = hold_clean(x, conditioning)
    timestep = rounded(path.TIMESTEPS * sigmas[n], rounding)
    v = velocity(x, jnp.full(x.shape[:1], timestep), conditioning)
    return x - v * rounded(sigmas[n] - sigmas[n + 1], rounding)

  x = jax.lax.fori_loop(0, len(sigmas) - 1, step, noise)
  return hold_clean(x, conditioning)
