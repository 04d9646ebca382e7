"""Rotary position embedding over latent frame, row and column.

A head of d channels is split in three parts that are rotated by the position
along time, height and width: d - 4 (d // 6), 2 (d // 6), 2 (d // 6) channels,
the split of Wan 2.1; FlashHead's (d - 2 (d // 3), d // 3, d // 3) equals it
wherever FlashHead runs. 128 channels give 44, 42, 42.
"""

import jax
import jax.numpy as jnp
import numpy as np

BASE = 10000.0


def split(head_dim: int) -> tuple[int, int, int]:
  """Channels of one head rotated by (time, height, width)."""
  if head_dim < 6 or head_dim % 2:
    raise ValueError(
        f'head width {head_dim}: expected an even number of at least 6,'
        ' so that time, height and width each get a pair of channels.'
    )
  spatial = 2 * (head_dim // 6)
  return head_dim - 2 * spatial, spatial, spatial


def rotation(
    head_dim: int, grid: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
  """Cosine and sine of every token's rotation angles.

  The angles are computed in float64: in float32 they are off by 6e-5 at the
  far end of a long axis.

  Args:
    head_dim: channels of one attention head.
    grid: (frames, rows, columns) of tokens.

  Returns:
    cos, sin: [frames * rows * columns, head_dim / 2] float32, tokens in
    (frame, row, column) order.
  """
  parts = []
  for axis, channels in enumerate(split(head_dim)):
    frequency = BASE ** -(np.arange(0, channels, 2) / channels)
    angle = np.arange(grid[axis])[:, None] * frequency
    shape = [1, 1, 1, channels // 2]
    shape[axis] = grid[axis]
    parts.append(
        np.broadcast_to(angle.reshape(shape), (*grid, channels // 2))
    )
  angles = np.concatenate(parts, axis=-1).reshape(-1, head_dim // 2)
  return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """x with neighbouring channels (2i, 2i + 1) rotated as a pair.

  Args:
    x: [B, ..., N, Dh] queries or keys, float32.
    cos: [..., Dh / 2] of `rotation`.
    sin: [..., Dh / 2] of `rotation`.

  Returns:
    [B, ..., N, Dh] of the dtype of x.
  """
  pairs = x.reshape(*x.shape[:-1], -1, 2)
  even, odd = pairs[..., 0], pairs[..., 1]
  cos, sin = cos[..., None, :], sin[..., None, :]
  turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
  return turned.reshape(x.shape)
