"""wav2vec2 speech encoder (arXiv 2006.11477), base and large.

The waveform goes through a convolutional stack (50 Hz), is interpolated to the
frame rate of the video *before* the transformer, as in SoulX-FlashHead, and
the hidden states of all layers are stacked: [frames, layers, channels].

Decisions where implementations differ:
- The last hidden state of the pre-norm variant is taken after the final norm
  (transformers 4.57.3); later releases take it before.
- The positional convolution keeps magnitude and direction of its weight norm
  as parameters. A materialised kernel would save 5 M of the 10^10 operations
  of a call and could not be split again bit for bit for export.
"""

import dataclasses
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.models.attention import attention
from asymtalker_jax.models.embeddings import EMBEDDING

SAMPLE_RATE_HZ = 16000
FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
_CONV_EPS = 1e-5  # of the norms in the convolutional stack; not configurable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config:
  """Sizes of an encoder; the defaults are wav2vec2-base.

  Attributes:
    width: A, channels of every hidden state.
    depth: L, transformer layers.
    heads: attention heads.
    ffn: hidden width of the feed-forward layers.
    conv_channels: width of each convolution.
    conv_kernels: taps of each convolution.
    conv_strides: samples per step of each convolution.
    conv_norm: 'group' normalises each channel of the first convolution over
      time, 'layer' the channels after every convolution.
    conv_bias: whether the convolutions have biases.
    position_kernel: taps of the positional convolution.
    position_groups: its groups.
    norm_first: norms before attention and feed-forward and one at the end
      ("stable layer norm", large models) instead of after them.
    eps: of the norms from the feature projection on.
    dtype: 'float32' or 'bfloat16', of the inputs of convolutions and matrix
      products.
  """

  width: int = 768
  depth: int = 12
  heads: int = 12
  ffn: int = 3072
  conv_channels: tuple[int, ...] = (512,) * 7
  conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
  conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
  conv_norm: str = 'group'
  conv_bias: bool = False
  position_kernel: int = 128
  position_groups: int = 16
  norm_first: bool = False
  eps: float = 1e-5
  dtype: str = 'float32'

  def __post_init__(self):
    stack = ('conv_channels', 'conv_kernels', 'conv_strides')
    for field in stack:  # Lists from JSON; linen needs hashable attributes.
      object.__setattr__(self, field, tuple(getattr(self, field)))
    if len({len(getattr(self, field)) for field in stack}) != 1:
      raise ValueError(
          'wav2vec2: expected as many conv_channels as conv_kernels and'
          f' conv_strides, got {[getattr(self, field) for field in stack]}'
      )
    for field, choices in (('conv_norm', ('group', 'layer')),
                           ('dtype', tuple(DTYPES))):  # pyformat: disable
      if getattr(self, field) not in choices:
        raise ValueError(
            f'wav2vec2 {field}={getattr(self, field)!r}: expected one of'
            f' {", ".join(choices)}'
        )
    for field in ('heads', 'position_groups'):
      if self.width % getattr(self, field):
        raise ValueError(
            f'wav2vec2 width {self.width}: expected a multiple of'
            f' {field}={getattr(self, field)}'
        )

  @property
  def layers(self) -> int:
    """L."""
    return self.depth

  @property
  def channels(self) -> int:
    """A."""
    return self.width

  @property
  def receptive_field(self) -> int:
    """Samples behind one convolutional feature."""
    samples = 1
    layers = list(zip(self.conv_kernels, self.conv_strides))
    for kernel, stride in reversed(layers):
      samples = (samples - 1) * stride + kernel
    return samples


def _gelu(x: jax.Array) -> jax.Array:
  """Exact GELU; through erf, which XLA computes faster than erfc."""
  return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


def _layer_norm(eps: float, name: str | None = None) -> nn.LayerNorm:
  return nn.LayerNorm(
      epsilon=eps, dtype=jnp.float32, use_fast_variance=False, name=name
  )


class TimeNorm(nn.Module):
  """Normalises every channel over time ("group norm" of one channel)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, T, C] -> [B, T, C] float32."""
    shape = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, shape)
    bias = self.param('bias', nn.initializers.zeros, shape)
    x = x.astype(jnp.float32)
    x = x - x.mean(axis=1, keepdims=True)
    variance = jnp.square(x).mean(axis=1, keepdims=True)
    return x * (scale * jax.lax.rsqrt(variance + _CONV_EPS)) + bias


class ConvLayer(nn.Module):
  """Strided convolution without padding, norm if any, GELU."""

  config: Wav2Vec2Config
  index: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, S, C] -> [B, (S - kernel) // stride + 1, C'] float32."""
    cfg, i = self.config, self.index
    x = nn.Conv(
        cfg.conv_channels[i],
        (cfg.conv_kernels[i],),
        (cfg.conv_strides[i],),
        padding='VALID',
        use_bias=cfg.conv_bias,
        kernel_init=nn.initializers.he_normal(),
        dtype=DTYPES[cfg.dtype],
        name='linear',
    )(x)
    if cfg.conv_norm == 'layer':
      x = _layer_norm(_CONV_EPS, 'norm')(x)
    elif i == 0:
      x = TimeNorm(name='norm')(x)
    return _gelu(x.astype(jnp.float32))


class FeatureProjection(nn.Module):
  """Convolutional features to the width of the transformer."""

  config: Wav2Vec2Config

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, T, C] -> [B, T, A] float32."""
    x = _layer_norm(self.config.eps, 'norm')(x)
    return nn.Dense(
        self.config.width,
        dtype=DTYPES[self.config.dtype],
        kernel_init=EMBEDDING,
        name='linear',
    )(x).astype(jnp.float32)


class PositionalConv(nn.Module):
  """Grouped convolution with weight norm that tells tokens where they are."""

  config: Wav2Vec2Config

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, T, A] -> what is added to it, float32."""
    cfg = self.config
    taps, inputs = cfg.position_kernel, cfg.width // cfg.position_groups
    std = 2.0 / math.sqrt(taps * cfg.width)
    direction = self.param(
        'direction', nn.initializers.normal(std), (taps, inputs, cfg.width)
    )
    # One magnitude per tap, at first about the length of its direction.
    magnitude = self.param(
        'magnitude',
        nn.initializers.constant(std * math.sqrt(inputs * cfg.width)),
        (taps,),
    )
    bias = self.param('bias', nn.initializers.zeros, (cfg.width,))
    length = jnp.sqrt(jnp.square(direction).sum(axis=(1, 2)))
    kernel = direction * (magnitude / length)[:, None, None]
    y = jax.lax.conv_general_dilated(
        x.astype(DTYPES[cfg.dtype]),
        kernel.astype(DTYPES[cfg.dtype]),
        window_strides=(1,),
        # torch pads taps // 2 on both sides and drops the surplus last step.
        padding=[(taps // 2, taps - 1 - taps // 2)],
        dimension_numbers=('NWC', 'WIO', 'NWC'),
        feature_group_count=cfg.position_groups,
    )
    return _gelu(y.astype(jnp.float32) + bias)


class Layer(nn.Module):
  """Transformer layer: self-attention and feed-forward."""

  config: Wav2Vec2Config

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, T, A] -> [B, T, A] float32."""
    cfg, dtype = self.config, DTYPES[self.config.dtype]

    def dense(features, name, y):
      return nn.Dense(
          features, dtype=dtype, kernel_init=EMBEDDING, name=name
      )(y)

    def attend(y):
      heads = (*y.shape[:-1], cfg.heads, -1)
      query, key, value = (
          dense(cfg.width, name, y).reshape(heads)
          for name in ('query', 'key', 'value')
      )
      mixed = attention(query, key, value).reshape(y.shape)
      return dense(cfg.width, 'out', mixed)

    def feed_forward(y):
      y = _gelu(dense(cfg.ffn, 'ffn_in', y))
      return dense(cfg.width, 'ffn_out', y)

    attention_norm = _layer_norm(cfg.eps, 'attention_norm')
    ffn_norm = _layer_norm(cfg.eps, 'ffn_norm')
    if cfg.norm_first:
      x = x + attend(attention_norm(x))
      return x + feed_forward(ffn_norm(x))
    x = attention_norm(x + attend(x))
    return ffn_norm(x + feed_forward(x))


class Wav2Vec2(nn.Module):
  """The network; see `encode` for what the rest of the package calls.

  Params: conv_0 .., feature_projection, position, norm, layer_0 ...
  """

  config: Wav2Vec2Config

  def setup(self):
    cfg = self.config
    self.conv = [ConvLayer(cfg, i) for i in range(len(cfg.conv_kernels))]
    self.feature_projection = FeatureProjection(cfg)
    self.position = PositionalConv(cfg)
    self.norm = _layer_norm(cfg.eps)
    self.layer = [Layer(cfg) for _ in range(cfg.depth)]

  def features(self, waveform: jax.Array) -> jax.Array:
    """Prepared waveform [B, S] -> features [B, T, C] at 50 Hz, float32.

    Raises:
      ValueError: fewer samples than one feature needs.
    """
    if waveform.shape[-1] < self.config.receptive_field:
      raise ValueError(
          f'waveform of {waveform.shape[-1]} samples: wav2vec2 needs at least'
          f' {self.config.receptive_field}'
      )
    x = waveform[..., None]
    for layer in self.conv:
      x = layer(x)
    return x

  def states(
      self, features: jax.Array, final_norm: bool = True
  ) -> list[jax.Array]:
    """Hidden states of the transformer.

    Args:
      features: [B, T, C] at any rate.
      final_norm: whether the norm behind the last layer of a `norm_first`
        model is part of the last state.

    Returns:
      L + 1 arrays [B, T, A] float32: the input of the first layer, then the
      output of every layer.
    """
    x = self.feature_projection(features)
    x = x + self.position(x)
    if not self.config.norm_first:
      x = self.norm(x)
    states = [x]
    for layer in self.layer:
      states.append(layer(states[-1]))
    if self.config.norm_first and final_norm:
      states[-1] = self.norm(states[-1])
    return states

  def __call__(
      self, waveform: jax.Array, frames: int | None = None
  ) -> list[jax.Array]:
    """Hidden states of a waveform.

    Args:
      waveform: [B, S] float32 at 16 kHz, prepared.
      frames: N, steps over which the features are spread; None keeps their
        own 50 Hz, as the network was trained.

    Returns:
      L + 1 arrays [B, N, A], see `states`.
    """
    x = self.features(waveform)
    if frames is not None:
      x = interpolate(x, frames)
    return self.states(x)


def interpolate(features: jax.Array, frames: int) -> jax.Array:
  """Linear interpolation over time; first and last step stay what they are.

  Args:
    features: [B, T, C].
    frames: N.

  Returns:
    [B, N, C]. For a waveform of exactly N frames T = 2 N - 1, and every second
    feature is taken.
  """
  steps = features.shape[1]
  position = np.linspace(0.0, steps - 1, frames)
  low = np.minimum(np.floor(position).astype(np.int32), max(steps - 2, 0))
  weight = (position - low).astype(np.float32)[:, None]
  high = np.minimum(low + 1, steps - 1)
  return features[:, low] * (1.0 - weight) + features[:, high] * weight


def init(config: Wav2Vec2Config, key: jax.Array) -> types.Params:
  """Fresh parameters, a nested dict of float32 arrays."""
  waveform = jnp.zeros((1, config.receptive_field))
  # Compiled, so that the forward pass behind an init is not computed.
  return jax.jit(Wav2Vec2(config).init)(key, waveform)['params']


def prepare_waveform(waveform: np.ndarray) -> np.ndarray:
  """Zero mean and unit variance over the whole buffer, [S] -> [S] float32."""
  waveform = np.asarray(waveform, np.float32)
  if not waveform.size:
    return waveform
  centred = waveform - np.float32(waveform.mean(dtype=np.float64))
  variance = np.square(centred).mean(dtype=np.float64)
  centred /= np.float32(np.sqrt(variance + 1e-7))
  return centred


def encode(
    config: Wav2Vec2Config,
    params: types.Params,
    waveform: jax.Array,
    frames: int,
) -> jax.Array:
  """Hidden states of all layers, one row per video frame.

  A waveform of N to N + 1 frames is taken as it is, its last samples spread
  over the N frames like in the reference; any other is cut or filled with
  zeros to N frames, so that sound and video never drift apart.

  Args:
    config: sizes.
    params: of `init` or of a converted checkpoint.
    waveform: [S] or [B, S] float32 at 16 kHz after `prepare_waveform`.
    frames: N video frames at 25 Hz, at least 1.

  Returns:
    [N, L, A] or [B, N, L, A] float32. Time and memory grow with N^2: see
    `audio_windows` for long files.
  """
  if frames < 1:
    raise ValueError(f'{frames} frames: expected at least 1')
  waveform = jnp.asarray(waveform, jnp.float32)
  if waveform.shape[-1] // SAMPLES_PER_FRAME != frames:
    waveform = waveform[..., : frames * SAMPLES_PER_FRAME]
    missing = frames * SAMPLES_PER_FRAME - waveform.shape[-1]
    ends = [(0, 0)] * (waveform.ndim - 1) + [(0, missing)]
    waveform = jnp.pad(waveform, ends)
  batch = waveform.reshape(-1, waveform.shape[-1])
  states = Wav2Vec2(config).apply({'params': params}, batch, frames)
  features = jnp.stack(states[1:], axis=2)
  return features.reshape(*waveform.shape[:-1], *features.shape[1:])


@dataclasses.dataclass(frozen=True)
class Wav2Vec2Encoder:
  """The audio encoder of a variant; same interface as `LogMelEncoder`."""

  config: Wav2Vec2Config

  def init(self, key: jax.Array) -> types.Params:
    """See `init`."""
    return init(self.config, key)

  def prepare_waveform(self, waveform: np.ndarray) -> np.ndarray:
    """See `prepare_waveform`."""
    return prepare_waveform(waveform)

  def encode(
      self, params: types.Params, waveform: jax.Array, frames: int
  ) -> jax.Array:
    """See `encode`."""
    return encode(self.config, params, waveform, frames)
