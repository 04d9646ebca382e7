"""Self-rollout of the student: a no-gradient prefix, then one chunk.

Nothing here takes ground-truth continuity: what the functions see of the data
is the identity reference and the audio. The prefix is a loop of traced length,
so one compiled step serves every k, and no gradient flows through it: a scan
with stop_gradient would still pay the backward pass of every chunk.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import noise
from asymtalker_jax.flow import samplers

# Clean latents of a chunk [B, T, H, W, C] -> first m slots of the next chunk.
Carry = Callable[[jax.Array], jax.Array]


def cold_start(reference: jax.Array) -> views.Continuity:
  """Chunk 0 starts from slot 0 = the first reference latent."""
  return views.Continuity(
      latents=reference, mask=views.clean_mask(1, *reference.shape[:2])
  )


def continue_from(
    latents: jax.Array, carry: Carry
) -> views.Continuity:
  """Own continuity of the chunk after `latents` [B, T, H, W, C]."""
  head = carry(latents)
  padded = jnp.zeros_like(latents).at[:, : head.shape[1]].set(head)
  return views.Continuity(
      latents=padded, mask=views.clean_mask(head.shape[1], *latents.shape[:2])
  )


def own_continuity(
    velocity: types.Velocity,
    carry: Carry,
    reference: jax.Array,
    audio: jax.Array,
    k: jax.Array,
    sigmas: np.ndarray,
    key: jax.Array,
) -> views.Continuity:
  """Generates chunks 0..k-1 and returns what chunk k starts from.

  Args:
    velocity: of the student, over parameters that are not differentiated.
    carry: latents of a chunk -> continuity slots of the next one.
    reference: [B, T, H, W, C] reference latents.
    audio: [B, K, F, 5, L, A].
    k: number of chunks to generate, traced int in 0..K-1.
    sigmas: few-step noise levels.
    key: one, or one per example; chunk j draws from fold_in(key, j).
  """

  def chunk(j, continuity):
    conditioning = types.Conditioning(
        reference=reference,
        audio=jnp.take(audio, j, axis=1),
        continuity=continuity.latents,
        mask=continuity.mask,
    )
    latents = samplers.few_step(
        velocity, conditioning, sigmas, noise.fold_in(key, j)
    )
    return continue_from(latents, carry)

  return jax.lax.fori_loop(0, k, chunk, cold_start(reference))


def noisy_at_exit(
    velocity: types.Velocity,
    conditioning: types.Conditioning,
    sigmas: np.ndarray,
    exit_step: jax.Array,
    key: jax.Array,
) -> jax.Array:
  """Input of the one differentiable step: sampler steps 0..exit-1 without it.

  Returns:
    [B, T, H, W, C] at noise level sigmas[exit_step].
  """
  sigmas = jnp.asarray(sigmas)

  def step(n, x):
    x0 = samplers.predict_x0_at(velocity, x, sigmas[n], conditioning)
    return samplers.renoise(x0, sigmas[n + 1], key, n + 1)

  start = samplers.renoise(
      jnp.zeros(conditioning.continuity.shape), sigmas[0], key, 0
  )
  return jax.lax.fori_loop(0, exit_step, step, start)
