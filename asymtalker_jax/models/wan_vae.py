"""The causal video VAE of Wan 2.1, one definition for every size.

The first latent frame encodes the first video frame alone, each further one
the next s_t frames, and nothing looks ahead: encode(v[:5]) == encode(v)[:2].
The reference (Wan2.1 `vae.py`) reaches this by encoding chunks with cached
frames; here the whole sequence goes through at once, with the same result.

What the last frames add to coming ones in each convolution is the whole state
of a stream: see `causal_conv.Tails` and `decode_step`.
"""

import dataclasses
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax.models.causal_conv import CausalConv
from asymtalker_jax.models.causal_conv import FrameConv
from asymtalker_jax.models.causal_conv import Tails
from asymtalker_jax.models.embeddings import patchify
from asymtalker_jax.models.embeddings import unpatchify

Array = jax.Array
# Below this squared length a feature vector counts as zero, without gradient:
# the reference's bound of 1e-24 lets gradients of flat grey video overflow.
_MIN_SQUARED_LENGTH = 1e-12
_LOGVAR_RANGE = (-30.0, 20.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WanVaeConfig:
  """Size of a VAE; the defaults are Wan 2.1.

  Attributes:
    patch_size: pixels per side that are folded into channels before the first
      convolution and unfolded after the last.
    base_channels: width at full resolution.
    multipliers: width of each stage in units of base_channels.
    strides: (spatial, temporal) stride after each stage but the last, each 1
      or 2.
    res_blocks: residual blocks per encoder stage; the decoder has one more.
    latent_channels: C.
    dtype: of convolution and matrix inputs; parameters and norms are float32.
    decoded_at_once: latent frames that pass through the decoder together, 0 for
      all. Results are the same. Few keep activations small, so that they stay in
      the cache of a CPU, and the program grows with the number of parts.
  """

  patch_size: int = 1
  base_channels: int = 96
  multipliers: tuple[int, ...] = (1, 2, 4, 4)
  strides: tuple[tuple[int, int], ...] = ((2, 1), (2, 2), (2, 2))
  res_blocks: int = 2
  latent_channels: int = 16
  dtype: str = 'float32'
  decoded_at_once: int = 0

  def __post_init__(self):
    # Values that went through JSON arrive as lists; modules must be hashable.
    object.__setattr__(self, 'multipliers', tuple(self.multipliers))
    object.__setattr__(self, 'strides', tuple(tuple(s) for s in self.strides))
    if len(self.strides) != len(self.multipliers) - 1:
      raise ValueError(
          f'{len(self.strides)} strides for {len(self.multipliers)} stages: '
          'expected one between each two stages'
      )
    if any(len(s) != 2 or not {*s} <= {1, 2} for s in self.strides):
      raise ValueError(
          f'strides {self.strides}: expected (spatial, temporal) of 1 or 2'
      )
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f'dtype {self.dtype!r}: expected float32 or bfloat16')
    if self.decoded_at_once < 0:
      raise ValueError(
          f'decoded_at_once {self.decoded_at_once}: expected 0 (all) or more'
      )

  @property
  def spatial_stride(self) -> int:
    """Pixels per latent cell."""
    return self.patch_size * math.prod(s for s, _ in self.strides)

  @property
  def temporal_stride(self) -> int:
    """s_t, video frames per latent frame after the first."""
    return math.prod(t for _, t in self.strides)

  def check_video(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless video of this [B, F, H, W, 3] can be encoded."""
    if len(shape) != 5 or shape[-1] != 3:
      raise ValueError(f'video shape {shape}: expected [B, F, H, W, 3]')
    _, frames, height, width, _ = shape
    if (frames - 1) % self.temporal_stride:
      stride = self.temporal_stride
      raise ValueError(
          f'{frames} video frames: expected 1 + a multiple of {stride}'
      )
    if height % self.spatial_stride or width % self.spatial_stride:
      raise ValueError(
          f'video of {height}x{width} pixels: expected multiples of '
          f'{self.spatial_stride}'
      )


class ChannelNorm(nn.Module):
  """RMS normalisation over channels, in float32."""

  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    gamma = self.param('gamma', nn.initializers.ones, (x.shape[-1],))
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    inverse = jnp.where(
        squared > _MIN_SQUARED_LENGTH,
        jax.lax.rsqrt(jnp.maximum(squared, _MIN_SQUARED_LENGTH)),
        0.0,
    )
    return (x * (inverse * math.sqrt(x.shape[-1])) * gamma).astype(self.dtype)


class ResBlock(nn.Module):
  """Two causal convolutions beside a shortcut."""

  channels: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, tails: Tails) -> Array:
    h = nn.silu(ChannelNorm(self.dtype, name='norm1')(x))
    h = CausalConv(self.channels, dtype=self.dtype, name='conv1')(h, tails)
    h = nn.silu(ChannelNorm(self.dtype, name='norm2')(h))
    h = CausalConv(self.channels, dtype=self.dtype, name='conv2')(h, tails)
    if x.shape[-1] != self.channels:
      x = nn.Dense(self.channels, dtype=self.dtype, name='shortcut')(x)
    return x + h


class FrameAttention(nn.Module):
  """Single-head self-attention among the cells of each frame."""

  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    batch, frames, height, width, channels = x.shape
    h = ChannelNorm(self.dtype, name='norm')(x)
    qkv = nn.Dense(3 * channels, dtype=self.dtype, name='qkv')(h)
    q, k, v = jnp.split(
        qkv.reshape(batch, frames, height * width, 3 * channels), 3, axis=-1
    )
    scores = jnp.einsum('btqc,btkc->btqk', q, k).astype(jnp.float32)
    weights = jax.nn.softmax(scores / math.sqrt(channels)).astype(self.dtype)
    h = jnp.einsum('btqk,btkc->btqc', weights, v).reshape(x.shape)
    # Starts at zero: the block is the identity until training needs it.
    zeros = nn.initializers.zeros
    proj = nn.Dense(channels, dtype=self.dtype, kernel_init=zeros, name='proj')
    return x + proj(h)


class Middle(nn.Module):
  """The blocks at the lowest resolution."""

  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, tails: Tails) -> Array:
    channels = x.shape[-1]
    x = ResBlock(channels, dtype=self.dtype, name='block_0')(x, tails)
    x = FrameAttention(dtype=self.dtype, name='attention')(x)
    return ResBlock(channels, dtype=self.dtype, name='block_1')(x, tails)


class Downsample(nn.Module):
  """Halves space by a convolution of each frame, then time by another.

  In time, the first frame passes unchanged, and each further output sees three
  frames that end at every second frame.
  """

  spatial: int
  temporal: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    channels = x.shape[-1]
    if self.spatial == 2:
      x = FrameConv(channels, 2, dtype=self.dtype, name='space_conv')(x)
    if self.temporal == 2:
      end = x.shape[1] - 1  # Even.
      triples = jnp.concatenate([x[:, 0:end:2], x[:, 1::2], x[:, 2::2]], -1)
      y = nn.Dense(channels, dtype=self.dtype, name='time_conv')(triples)
      x = jnp.concatenate([x[:, :1], y], axis=1)
    return x


class Upsample(nn.Module):
  """Doubles time by a causal convolution, then space by repetition.

  In time, the first frame of the stream passes unchanged and unseen by the
  others; each further one becomes two. Doubling space halves the channels.
  """

  spatial: int
  temporal: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, tails: Tails) -> Array:
    channels = x.shape[-1]
    if self.temporal == 2:
      # A zero frame adds nothing to later ones: as if they had not seen it.
      seen = x.at[:, 0].set(0) if tails.begins else x
      conv = CausalConv(2 * channels, 3, 1, self.dtype, name='time_conv')
      y = conv(seen, tails)
      y = y.reshape(*y.shape[:-1], 2, channels)
      y = jnp.moveaxis(y, -2, 2).reshape(x.shape[0], -1, *x.shape[2:])
      x = jnp.concatenate([x[:, :1], y[:, 2:]], axis=1) if tails.begins else y
    if self.spatial == 2:
      x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
      x = FrameConv(channels // 2, dtype=self.dtype, name='space_conv')(x)
    return x


class Encoder(nn.Module):
  """Folded pixels [B, F, H, W, 3 p^2] -> features [B, T, h, w, 2 C]."""

  config: WanVaeConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    c, tails = self.config, Tails()
    conv = lambda channels, name: CausalConv(channels, dtype=c.dtype, name=name)
    x = conv(c.base_channels, 'conv_in')(x, tails)
    for i, multiplier in enumerate(c.multipliers):
      channels = c.base_channels * multiplier
      for j in range(c.res_blocks):
        x = ResBlock(channels, c.dtype, name=f'stage_{i}_block_{j}')(x, tails)
      if i < len(c.strides):
        x = Downsample(*c.strides[i], c.dtype, name=f'stage_{i}_down')(x)
    x = Middle(c.dtype, name='middle')(x, tails)
    x = nn.silu(ChannelNorm(c.dtype, name='norm_out')(x))
    return conv(2 * c.latent_channels, 'conv_out')(x, tails)


class Decoder(nn.Module):
  """Latents [B, T, h, w, C] -> folded pixels [B, F, H, W, 3 p^2]."""

  config: WanVaeConfig

  @nn.compact
  def __call__(self, x: Array, tails: Tails) -> Array:
    c = self.config
    conv = lambda channels, name: CausalConv(channels, dtype=c.dtype, name=name)
    x = conv(c.base_channels * c.multipliers[-1], 'conv_in')(x, tails)
    x = Middle(c.dtype, name='middle')(x, tails)
    strides = c.strides[::-1]
    for i, multiplier in enumerate(c.multipliers[::-1]):
      channels = c.base_channels * multiplier
      for j in range(c.res_blocks + 1):
        x = ResBlock(channels, c.dtype, name=f'stage_{i}_block_{j}')(x, tails)
      if i < len(strides):
        x = Upsample(*strides[i], c.dtype, name=f'stage_{i}_up')(x, tails)
    x = nn.silu(ChannelNorm(c.dtype, name='norm_out')(x))
    return conv(3 * c.patch_size**2, 'conv_out')(x, tails)


class WanVae(nn.Module):
  """The VAE; its methods are called through `apply(..., method=...)`.

  Latents are normalised per channel by `latent_mean` and `latent_std`. These
  statistics are parameters so that they travel with the weights, but they get
  no gradient: exclude them from weight decay.
  """

  config: WanVaeConfig

  def setup(self):
    c = self.config
    self.encoder = Encoder(c)
    self.decoder = Decoder(c)
    self.posterior = nn.Dense(2 * c.latent_channels, dtype=c.dtype)
    self.prior = nn.Dense(c.latent_channels, dtype=c.dtype)
    shape = (c.latent_channels,)
    self.latent_mean = self.param('latent_mean', nn.initializers.zeros, shape)
    self.latent_std = self.param('latent_std', nn.initializers.ones, shape)

  def __call__(self, video: Array) -> Array:
    """Unclamped reconstruction of [B, F, H, W, 3]; also touches all params."""
    return self.decode(self.encode(video), clamp=False)

  def moments(self, video: Array) -> tuple[Array, Array]:
    """Mean and log-variance of the posterior, not normalised.

    Args:
      video: [B, F, H, W, 3] in [-1, 1], F = 1 + a multiple of s_t, H and W
        multiples of the spatial stride.

    Returns:
      Two float32 arrays [B, T, h, w, C].

    Raises:
      ValueError: the video's shape does not fit the strides.
    """
    self.config.check_video(video.shape)
    p = self.config.patch_size
    b, f, h, w, _ = video.shape
    folded = patchify(video, (1, p, p)).reshape(b, f, h // p, w // p, -1)
    features = self.encoder(folded)
    moments = self.posterior(features).astype(jnp.float32)
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, *_LOGVAR_RANGE)

  def normalise(self, latents: Array) -> Array:
    """Posterior samples or means -> normalised latents."""
    mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
    return (latents - mean) / std

  def encode(self, video: Array) -> Array:
    """Normalised posterior mean, float32 [B, T, h, w, C]; as `moments`."""
    return self.normalise(self.moments(video)[0])

  def decode(self, latents: Array, clamp: bool = True) -> Array:
    """Video of normalised latents.

    Args:
      latents: [B, T, h, w, C].
      clamp: to [-1, 1], which the reference does; losses need the raw values.

    Returns:
      [B, 1 + s_t (T - 1), H, W, 3] float32.
    """
    frames, cache, videos = latents.shape[1], None, []
    part = self.config.decoded_at_once or frames
    for start in range(0, frames, part):
      tails = Tails(cache)
      videos.append(self._decode(latents[:, start : start + part], tails))
      cache = tails.left
    video = jnp.concatenate(videos, axis=1)
    return jnp.clip(video, -1.0, 1.0) if clamp else video

  def decode_step(
      self, latents: Array, cache: dict[str, Array] | None = None
  ) -> tuple[Array, dict[str, Array]]:
    """Decodes the next latent frames of a stream, in constant memory.

    Args:
      latents: [B, T, h, w, C], usually T = 1.
      cache: what the previous step returned; None begins a stream.

    Returns:
      Video in [-1, 1], float32: s_t frames per latent frame, for the first one
      of a stream one frame; and the cache for the next step. Over all steps
      the same video as `decode` of all latents.
    """
    tails = Tails(cache)
    video = self._decode(latents, tails)
    return jnp.clip(video, -1.0, 1.0), tails.left

  def _decode(self, latents: Array, tails: Tails) -> Array:
    mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
    x = self.decoder(self.prior(latents * std + mean), tails)
    p, (_, f, h, w, _) = self.config.patch_size, x.shape
    video = unpatchify(x, (1, p, p), (f, p * h, p * w))
    return video.astype(jnp.float32)


def init(config: WanVaeConfig, key: Array) -> dict:
  """Fresh parameters, a nested dict of float32 arrays."""
  side = config.spatial_stride
  video = jnp.zeros((1, 1 + config.temporal_stride, side, side, 3))
  # Compiled, so that the forward pass behind an init is not computed.
  return jax.jit(WanVae(config).init)(key, video)['params']
