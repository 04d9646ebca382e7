"""Ground truth through the VAE and back: the ceiling of any generation."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import types


def reconstruct(
    encode: Callable[[jax.Array], jax.Array],
    decode: Callable[[jax.Array], jax.Array],
    chunk: types.ChunkPlan,
) -> Callable[[types.Clip], Iterator[np.ndarray]]:
  """A system that encodes and decodes a clip, window by window as generation
  does: every window after the first gives only its new frames.

  Args:
    encode: video [B, F, H, W, 3] in [-1, 1] -> latents.
    decode: latents -> video.
    chunk: geometry of the windows.
  """
  run = jax.jit(lambda video: decode(encode(video)))

  def system(clip: types.Clip) -> Iterator[np.ndarray]:
    count, start = len(clip.frames), 0
    while start == 0 or start + chunk.continuity_frames < count:
      window = clip.frames[start : start + chunk.frames]
      # The last window may be short: its last frame is held.
      at = np.minimum(np.arange(chunk.frames), len(window) - 1)
      video = jnp.asarray(window[at], jnp.float32) / 127.5 - 1.0
      out = np.asarray(run(video[None])[0])
      out = np.clip(np.rint((out + 1.0) * 127.5), 0, 255).astype(np.uint8)
      first = chunk.continuity_frames if start else 0
      yield from out[first : len(window)]
      start += chunk.new_frames

  return system
