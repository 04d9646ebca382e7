"""SyncNet v2: mouth and speech in one space, for Sync-C and Sync-D.

Two towers of convolutions, one over 5 frames of a mouth at 25 fps, one over the
20 MFCC columns (100 Hz) of the same 0.2 s. Chung and Zisserman 2016; layers as
in joonson/syncnet_python. Inference only: batch statistics are parameters.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax import types

WINDOW = 5  # frames
SIZE = 224  # pixels
COEFFICIENTS, COLUMNS = 13, 20  # MFCC of a window
EMBEDDING = 1024
_EPS = 1e-5
# (features, kernel, stride, padding, pool) of each convolution; a pool is
# (window, stride, padding).
_LIP = (
    (96, (7, 7), 2, 0, ((3, 3), (2, 2), 0)),
    (256, (5, 5), 2, 1, ((3, 3), (2, 2), 1)),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, ((3, 3), (2, 2), 0)),
    (512, (6, 6), 1, 0, None),
)
_AUDIO = (
    (64, (3, 3), 1, 1, None),
    (192, (3, 3), 1, 1, ((3, 3), (1, 2), 0)),
    (384, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, None),
    (256, (3, 3), 1, 1, ((3, 3), (2, 2), 0)),
    (512, (5, 4), 1, 0, None),
)


class FrozenNorm(nn.Module):
  """Batch normalisation by statistics that are parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1],)
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    mean = self.param('mean', nn.initializers.zeros, shape)
    variance = self.param('variance', nn.initializers.ones, shape)
    return (x - mean) * (scale * jax.lax.rsqrt(variance + _EPS)) + bias


def _pooled(x: jax.Array, pool) -> jax.Array:
  """Largest values of windows; the border counts as minus infinity."""
  if pool is None:
    return x
  window, stride, padding = pool
  return nn.max_pool(x, window, stride, [(padding, padding)] * 2)


class _Block(nn.Module):
  """Convolution, norm, ReLU, pool."""

  layer: tuple
  frames: int = 0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    features, kernel, stride, padding, pool = self.layer
    sides, strides = [(padding, padding)] * 2, (stride, stride)
    if self.frames:
      kernel, strides = (self.frames, *kernel), (1, *strides)
      sides = [(0, 0), *sides]
    x = nn.Conv(features, kernel, strides, sides, name='conv')(x)
    x = nn.relu(FrozenNorm(name='norm')(x))
    if self.frames:
      x = x.reshape(-1, *x.shape[2:])
    return _pooled(x, pool)


class _Head(nn.Module):
  """512 features -> the embedding."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(FrozenNorm(name='norm')(nn.Dense(512, name='dense_0')(x)))
    return nn.Dense(EMBEDDING, name='dense_1')(x)


class SyncNet(nn.Module):
  """Both towers."""

  def setup(self):
    self.lip = [
        _Block(layer, frames=0 if index else WINDOW)
        for index, layer in enumerate(_LIP)
    ]
    self.audio = [_Block(layer) for layer in _AUDIO]
    self.lip_head, self.audio_head = _Head(), _Head()

  def lip_layer_1(self, frames: jax.Array) -> jax.Array:
    """[B (T - 4), 54, 54, 96] after the first block."""
    return self.lip[0](frames)

  def lip_features(self, frames: jax.Array) -> jax.Array:
    """[B (T - 4), 512] before the head."""
    x = self.lip_layer_1(frames)
    for block in self.lip[1:]:
      x = block(x)
    return x.reshape(len(x), -1)

  def lips(self, frames: jax.Array) -> jax.Array:
    """[B (T - 4), 1024] embeddings of every window of 5 frames.

    Args:
      frames: [B, T, 224, 224, 3] float32, 0 to 255, channels BGR, T >= 5.
    """
    return self.lip_head(self.lip_features(frames))

  def speech(self, mfcc: jax.Array) -> jax.Array:
    """[B, 1024] embeddings of MFCC windows [B, 13, 20]."""
    x = mfcc[..., None]
    for block in self.audio:
      x = block(x)
    return self.audio_head(x.reshape(len(x), -1))

  def __call__(self, frames: jax.Array, mfcc: jax.Array):
    """Both; for the shapes of the parameters."""
    return self.lips(frames), self.speech(mfcc)


def init(key: jax.Array) -> types.Params:
  """Random parameters; also what a converter has to fill."""
  frames = jnp.zeros((1, WINDOW, SIZE, SIZE, 3))
  mfcc = jnp.zeros((1, COEFFICIENTS, COLUMNS))
  return SyncNet().init(key, frames, mfcc)['params']


def targets() -> types.Params:
  """Shapes and dtypes of the parameters, nothing computed."""
  return jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))


@functools.partial(jax.jit, static_argnums=2)
def apply(params: types.Params, x: jax.Array, method: str) -> jax.Array:
  """A method of `SyncNet` by its name."""
  return SyncNet().apply({'params': params}, x, method=method)
