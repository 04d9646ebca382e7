"""IDEA 1: temporal reference encoding (docs/method.md, section 2).

The identity reference is replicated in pixel space into a pseudo-video of F
frames, and the frozen 3-D VAE encodes that video. The reference latents so have
the temporal statistics of a video: slot 0 is a "single-image" latent, the later
slots are "video" latents, exactly like the noisy latents they are concatenated
with. The two other modes are the baselines of the paper's ablation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

MODES = ('temporal', 'static', 'first_frame')
VaeEncode = Callable[[jax.Array], jax.Array]


def pseudo_video(image: jax.Array, frames: int) -> jax.Array:
  """Replicates image [B, H, W, 3] in time: [B, F, H, W, 3]."""
  return jnp.repeat(image[:, None], frames, axis=1)


def encode_reference(
    image: jax.Array,
    vae_encode: VaeEncode,
    frames: int,
    mode: str = 'temporal',
) -> jax.Array:
  """Reference latents [B, T, H, W, C] of an identity reference.

  Args:
    image: [B, H, W, 3] in [-1, 1].
    vae_encode: video [B, F, H, W, 3] -> normalised latents [B, T, H, W, C].
    frames: F of a chunk.
    mode: 'temporal' (the method): encode the pseudo-video; 'static': encode one
      frame and repeat its latent over T; 'first_frame': that latent in slot 0
      and zeros elsewhere.

  Raises:
    ValueError: unknown mode.
  """
  if mode == 'temporal':
    return vae_encode(pseudo_video(image, frames))
  if mode not in MODES:
    raise ValueError(f'reference_encoding {mode!r}: expected one of {MODES}')
  latent = vae_encode(pseudo_video(image, 1))
  shape = jax.eval_shape(
      vae_encode,
      jax.ShapeDtypeStruct(
          (image.shape[0], frames, *image.shape[1:]), image.dtype
      ),
  ).shape
  if mode == 'static':
    return jnp.broadcast_to(latent, shape)
  return jnp.zeros(shape, latent.dtype).at[:, :1].set(latent)
