"""What enters and leaves the DiT: patches, timesteps, text tokens."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Initialisers of Wan 2.1: Xavier for matrices, N(0, 0.02) in the embeddings.
MATRIX = nn.initializers.xavier_uniform()
EMBEDDING = nn.initializers.normal(0.02)


def patchify(x: jax.Array, patch: tuple[int, int, int]) -> jax.Array:
  """[B, T, H, W, C] -> [B, T/pt, (H/ph)(W/pw), pt ph pw C] patches."""
  b, t, h, w, c = x.shape
  pt, ph, pw = patch
  if t % pt or h % ph or w % pw:
    raise ValueError(
        f'latents of {t}x{h}x{w}: expected multiples of the patch'
        f' {pt}x{ph}x{pw}.'
    )
  x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
  x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
  return x.reshape(b, t // pt, (h // ph) * (w // pw), pt * ph * pw * c)


def unpatchify(
    x: jax.Array, patch: tuple[int, int, int], size: tuple[int, int, int]
) -> jax.Array:
  """Inverse of `patchify`.

  Args:
    x: [B, T/pt, (H/ph)(W/pw), pt ph pw C] patches.
    patch: (pt, ph, pw).
    size: (T, H, W) of the result.

  Returns:
    [B, T, H, W, C].
  """
  (pt, ph, pw), (t, h, w) = patch, size
  x = x.reshape(x.shape[0], t // pt, h // ph, w // pw, pt, ph, pw, -1)
  x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
  return x.reshape(x.shape[0], t, h, w, -1)


def sinusoid(timestep: jax.Array, dim: int) -> jax.Array:
  """[cos | sin] of the timestep at dim / 2 frequencies from 1 to 1/10000.

  The angle reaches 1000 radians, where a float32 is only good to 3e-5. It is
  split into an exact product of few-bit factors and a small rest, and the two
  are joined by the addition theorem: as accurate as float64 angles.

  Args:
    timestep: [...] float32 in [0, 1000].
    dim: even number of channels.

  Returns:
    [..., dim] float32.
  """
  half = dim // 2
  frequency = 10000.0 ** -(np.arange(half) / half)
  # 11 bits of frequency times the 10 bits of a whole timestep are exact.
  mantissa, exponent = np.frexp(frequency)
  coarse = np.ldexp(np.round(mantissa * 2048) / 2048, exponent)
  fine = (frequency - coarse).astype(np.float32)
  timestep = timestep.astype(jnp.float32)[..., None]
  whole = jnp.floor(timestep)
  large = whole * coarse.astype(np.float32)
  small = whole * fine + (timestep - whole) * frequency.astype(np.float32)
  cos_large, sin_large = jnp.cos(large), jnp.sin(large)
  cos_small, sin_small = jnp.cos(small), jnp.sin(small)
  cos = cos_large * cos_small - sin_large * sin_small
  sin = sin_large * cos_small + cos_large * sin_small
  return jnp.concatenate([cos, sin], axis=-1)


class TimeEmbedding(nn.Module):
  """Timestep -> embedding and the modulation shared by all blocks.

  Everything is float32 with exact products: the fastest sinusoid turns by one
  radian per unit of timestep, and the work is small.
  """

  width: int
  frequency_dim: int

  @nn.compact
  def __call__(self, timestep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Embeds timesteps.

    Args:
      timestep: [B, T] float32 in [0, 1000].

    Returns:
      embedding [B, T, D] and modulation [B, T, 6, D], both float32.
    """

    def dense(features, name, init):
      return nn.Dense(
          features, kernel_init=init, precision='highest', name=name
      )

    x = sinusoid(timestep, self.frequency_dim)
    x = nn.silu(dense(self.width, 'hidden', EMBEDDING)(x))
    x = dense(self.width, 'out', EMBEDDING)(x)
    modulation = dense(6 * self.width, 'modulation', MATRIX)(nn.silu(x))
    return x, modulation.reshape(*x.shape[:-1], 6, self.width)


class TextEmbedding(nn.Module):
  """Text encoder states -> context tokens of the plain Wan 2.1 model."""

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, text: jax.Array) -> jax.Array:
    """[B, S, text_dim] -> [B, S, D]."""
    x = nn.Dense(
        self.width, dtype=self.dtype, kernel_init=EMBEDDING, name='hidden'
    )(text)
    x = nn.gelu(x, approximate=True)
    return nn.Dense(
        self.width, dtype=self.dtype, kernel_init=EMBEDDING, name='out'
    )(x)
