"""Puppet reader: what a frame of a puppet shows, read by a small network.

One 128x128 frame -> mouth opening, head pose, blink, an identity embedding and
the features under both. It is the measuring instrument of the evaluation at
tiny size, in the place that SyncNet, ArcFace and Inception have at full size.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax import types


class MatmulConv(nn.Module):
  """3x3 convolution written as one matrix product, stride 1 or 2.

  The weight gradient of a convolution with few channels runs at a third of
  matmul speed on a CPU; gathering the nine shifted copies first makes both
  directions matmuls.

  Attributes:
    features: output channels.
    stride: 1 or 2.
  """

  features: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[:, i : i + height : self.stride, j : j + width : self.stride]
        for i in range(3)
        for j in range(3)
    ]
    return nn.Dense(self.features)(jnp.concatenate(shifted, axis=-1))


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
  """[B, H, W, C] -> [B, H / block, W / block, C block^2]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // block, block, w // block, block, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // block, w // block, c * block * block)


class PuppetReader(nn.Module):
  """The network.

  Attributes:
    outputs: number of regressed tracks (normalised to unit variance).
    embedding: E, length of the identity embedding.
    widths: channels at strides 4, 8 and 16 of the input.
    features: D, length of the feature vector (also the Frechet features).
  """

  outputs: int
  embedding: int
  widths: tuple[int, int, int]
  features: int

  @nn.compact
  def __call__(self, frames: jax.Array) -> dict[str, jax.Array]:
    """Reads frames.

    Args:
      frames: [B, H, W, 3] float32 in [-1, 1], H = W = a multiple of 16.

    Returns:
      'tracks' [B, outputs] normalised; 'embedding' [B, E] of unit length;
      'features' [B, D].
    """
    x = nn.Dense(self.widths[0], name='stem')(space_to_depth(frames, 4))
    x = nn.gelu(x)
    for stage, width in enumerate(self.widths[1:], 1):
      x = nn.gelu(MatmulConv(width, stride=2, name=f'down{stage}')(x))
      y = nn.GroupNorm(num_groups=8, name=f'norm{stage}')(x)
      x = x + nn.gelu(MatmulConv(width, name=f'conv{stage}')(y))
    x = nn.GroupNorm(num_groups=8, name='norm_out')(x)
    # Where things are matters (pose, mouth corners), so few channels keep the
    # full grid; what things look like comes from the mean over all channels.
    grid = nn.Dense(8, name='grid')(x)
    grid = grid.reshape(grid.shape[0], -1)
    x = jnp.concatenate([grid, x.mean(axis=(1, 2))], axis=-1)
    features = nn.gelu(nn.Dense(self.features, name='features')(x))
    embedding = nn.Dense(self.embedding, name='embedding')(features)
    norm = jnp.linalg.norm(embedding, axis=-1, keepdims=True)
    return {
        'tracks': nn.Dense(self.outputs, name='tracks')(features),
        'embedding': embedding / jnp.maximum(norm, 1e-6),
        'features': features,
    }


def build(config: dict) -> PuppetReader:
  """The network of a reader config with keys tracks, embedding, widths,
  features (other keys are not read)."""
  return PuppetReader(
      outputs=len(config['tracks']),
      embedding=config['embedding'],
      widths=tuple(config['widths']),
      features=config['features'],
  )


def init(config: dict, key: jax.Array) -> types.Params:
  """Parameters for frames of config['size'] pixels."""
  size = config['size']
  return build(config).init(key, jnp.zeros((1, size, size, 3)))['params']


def apply(config: dict, params: types.Params, frames: jax.Array) -> dict:
  """`PuppetReader.__call__` of `params` on frames [B, H, W, 3] in [-1, 1]."""
  return build(config).apply({'params': params}, frames)
