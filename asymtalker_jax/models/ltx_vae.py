"""The LTX video VAE as FlashHead Lite uses it, one definition for every size.

The first latent frame encodes the first video frame alone, each further one
the next s_t frames, and the encoder never looks ahead. The decoder does (unless
`causal_decoder`), so that it has no streaming form: it decodes whole chunks.

Sources: LTX-Video's `causal_video_autoencoder.py`, also in SoulX-FlashHead, and
diffusers' `AutoencoderKLLTXVideo`, the same network as the unconditioned part.
Where they force a choice:
- The posterior mean is the default; FlashHead draws a sample from the global
  generator, here `encode(video, noise)` with explicit noise.
- Without `noise` the decoder injects none, where the reference always draws.
- The decoder's video is clamped unless asked otherwise; FlashHead clamps later.
- FlashHead never passes a timestep and so refuses conditioned checkpoints.
"""

from collections.abc import Sequence
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax.models.causal_conv import ConvStyle
from asymtalker_jax.models.causal_conv import ReplicatedConv
from asymtalker_jax.models.embeddings import sinusoid
from asymtalker_jax.models.ltx_vae_config import LtxVaeConfig

Array = jax.Array
_PIXEL_NORM_EPS = 1e-8
_LAYER_NORM_EPS = 1e-6
_LOGVAR_RANGE = (-30.0, 20.0)
_FREQUENCIES = 256


def fold(x: Array, factors: tuple[int, int, int]) -> Array:
  """[B, T, H, W, C] -> [B, T/t, H/h, W/w, (C t h w)] for factors (t, h, w)."""
  (b, t, h, w, c), (pt, ph, pw) = x.shape, factors
  x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
  x = x.transpose(0, 1, 3, 5, 7, 2, 4, 6)
  return x.reshape(*x.shape[:4], c * pt * ph * pw)


def unfold(x: Array, factors: tuple[int, int, int]) -> Array:
  """Inverse of `fold`."""
  (b, t, h, w, _), (pt, ph, pw) = x.shape, factors
  x = x.reshape(b, t, h, w, -1, pt, ph, pw)
  x = x.transpose(0, 1, 5, 2, 6, 3, 7, 4)
  return x.reshape(b, t * pt, h * ph, w * pw, -1)


def _pixel_norm(x: Array) -> Array:
  """Unit mean square over channels, in float32."""
  x = x.astype(jnp.float32)
  square = jnp.mean(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(square + _PIXEL_NORM_EPS)


def _modulate(x: Array, shift: Array, scale: Array) -> Array:
  """x [B, T, H, W, C] with shift and scale [B, C]."""
  shift, scale = (y[:, None, None, None] for y in (shift, scale))
  return x * (1 + scale) + shift


class TimeEmbedding(nn.Module):
  """Timestep [B] in [0, 1000] -> [B, channels], float32."""

  channels: int

  @nn.compact
  def __call__(self, timestep: Array) -> Array:
    dense = lambda name: nn.Dense(
        self.channels, precision='highest', name=name
    )
    hidden = dense('hidden')(sinusoid(timestep, _FREQUENCIES))
    return dense('out')(nn.silu(hidden))


class ResBlock(nn.Module):
  """Two convolutions beside a shortcut.

  With an embedding [B, 4 C] the norms are modulated by it; noise is one array
  [H, W] per convolution, or () for none.
  """

  channels: int
  style: ConvStyle
  inject_noise: bool = False

  @nn.compact
  def __call__(
      self,
      x: Array,
      embedding: Array | None = None,
      noise: Sequence[Array] = (),
  ) -> Array:
    channels, style = x.shape[-1], self.style
    if embedding is not None:
      init = nn.initializers.normal(channels**-0.5)
      table = self.param('modulation', init, (4, channels))
      modulation = table + embedding.reshape(-1, 4, channels)
    h = x
    for i in (1, 2):
      h = _pixel_norm(h)
      if embedding is not None:
        h = _modulate(h, modulation[:, 2 * i - 2], modulation[:, 2 * i - 1])
      conv = ReplicatedConv(self.channels, style, name=f'conv{i}')
      h = conv(nn.silu(h))
      if self.inject_noise:
        zeros = nn.initializers.zeros
        scale = self.param(f'noise_scale{i}', zeros, (self.channels,))
        if noise:
          h = h + (noise[i - 1][..., None] * scale).astype(h.dtype)
    if channels != self.channels:
      norm = nn.LayerNorm(
          _LAYER_NORM_EPS, use_fast_variance=False, name='norm3'
      )
      x = nn.Dense(self.channels, dtype=style.dtype, name='shortcut')(norm(x))
    return x + h


class ResStack(nn.Module):
  """Residual blocks of one width, with one embedding of the timestep."""

  layers: int
  style: ConvStyle
  inject_noise: bool = False

  @nn.compact
  def __call__(
      self, x: Array, timestep: Array | None = None, noise: Sequence[Array] = ()
  ) -> Array:
    channels, embedding = x.shape[-1], None
    if timestep is not None:
      embedding = TimeEmbedding(4 * channels, name='time')(timestep)
    for j in range(self.layers):
      block = ResBlock(channels, self.style, self.inject_noise, name=f'res_{j}')
      x = block(x, embedding, noise[2 * j : 2 * j + 2])
    return x


class FoldDownsample(nn.Module):
  """Convolution folded into channels, plus the mean of folded input groups."""

  channels: int
  style: ConvStyle
  stride: tuple[int, int]

  @nn.compact
  def __call__(self, x: Array) -> Array:
    time, space = self.stride
    factors = (time, space, space)
    # The first frame twice, so that it fills a pair of frames alone.
    x = jnp.concatenate([x[:, :1]] * (time - 1) + [x], axis=1)
    width = self.channels // math.prod(factors)
    y = fold(ReplicatedConv(width, self.style, name='conv')(x), factors)
    x = fold(x, factors).astype(jnp.float32)
    x = x.reshape(*x.shape[:4], self.channels, -1).mean(axis=-1)
    return y + x.astype(y.dtype)


class FoldUpsample(nn.Module):
  """Convolution unfolded into frames and pixels, without the first frame.

  `residual` adds the input, unfolded and repeated to the same channels.
  """

  channels: int
  style: ConvStyle
  stride: tuple[int, int]
  residual: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Array:
    time, space = self.stride
    factors = (time, space, space)
    width = self.channels * math.prod(factors)
    y = unfold(ReplicatedConv(width, self.style, name='conv')(x), factors)
    if self.residual:
      x = unfold(x, factors)
      y = y + jnp.tile(x, self.channels // x.shape[-1])
    return y[:, time - 1 :]


class Encoder(nn.Module):
  """Folded pixels [B, F, H, W, 3 p^2] -> mean and one log-variance, C + 1."""

  config: LtxVaeConfig

  @nn.compact
  def __call__(self, x: Array) -> Array:
    c, style = self.config, self.config.style(causal=True)
    x = ReplicatedConv(c.encoder_base_channels, style, name='conv_in')(x)
    for i, block in enumerate(c.encoder_blocks):
      width, name = block.widen(x.shape[-1]), f'block_{i}'
      if block.kind == 'res_x':
        x = ResStack(block.num_layers, style, name=name)(x)
      elif block.kind == 'res_x_y':
        x = ResBlock(width, style, name=name)(x)
      elif block.kind.endswith('_res'):
        x = FoldDownsample(width, style, block.stride, name=name)(x)
      else:
        x = ReplicatedConv(width, style, block.stride, name=name)(x)
    x = nn.silu(_pixel_norm(x))
    return ReplicatedConv(c.latent_channels + 1, style, name='conv_out')(x)


class Decoder(nn.Module):
  """Latents [B, T, h, w, C] -> folded pixels [B, F, H, W, 3 p^2]."""

  config: LtxVaeConfig

  @nn.compact
  def __call__(
      self, x: Array, timestep: Array | None, noise: Sequence[Array]
  ) -> Array:
    c, style = self.config, self.config.style(self.config.causal_decoder)
    if timestep is not None:
      scale = self.param('timestep_scale', nn.initializers.constant(1000.0), ())
      timestep = timestep * scale
    x = ReplicatedConv(c.deep_channels, style, name='conv_in')(x)
    for i, block in enumerate(c.decoder_blocks[::-1]):
      width, name = block.narrow(x.shape[-1]), f'block_{i}'
      if block.kind == 'res_x':
        stack = ResStack(
            block.num_layers, style, block.inject_noise, name=name
        )
        x = stack(x, timestep, noise[: block.noises])
        noise = noise[block.noises :]
      elif block.kind == 'res_x_y':
        x = ResBlock(width, style, name=name)(x)
      else:
        x = FoldUpsample(
            width, style, block.stride, block.residual, name=name
        )(x)
    x = _pixel_norm(x)
    if timestep is not None:
      init = nn.initializers.normal(width**-0.5)
      table = self.param('modulation', init, (2, width))
      embedding = TimeEmbedding(2 * width, name='time')(timestep)
      modulation = table + embedding.reshape(-1, 2, width)
      x = _modulate(x, modulation[:, 0], modulation[:, 1])
    x = nn.silu(x)
    return ReplicatedConv(3 * c.patch_size**2, style, name='conv_out')(x)


class LtxVae(nn.Module):
  """The VAE; its methods are called through `apply(..., method=...)`.

  Latents are normalised per channel by `latent_mean` and `latent_std`. These
  statistics are parameters so that they travel with the weights, but they get
  no gradient: exclude them from weight decay.
  """

  config: LtxVaeConfig

  def setup(self):
    self.encoder = Encoder(self.config)
    self.decoder = Decoder(self.config)
    shape = (self.config.latent_channels,)
    self.latent_mean = self.param('latent_mean', nn.initializers.zeros, shape)
    self.latent_std = self.param('latent_std', nn.initializers.ones, shape)

  def __call__(self, video: Array) -> Array:
    """Unclamped reconstruction of [B, F, H, W, 3]; also touches all params."""
    timestep = None
    if self.config.timestep_conditioning:
      timestep = jnp.zeros(video.shape[0])
    return self.decode(self.encode(video), timestep, clamp=False)

  def moments(self, video: Array) -> tuple[Array, Array]:
    """Mean and log-variance of the posterior, not normalised.

    Args:
      video: [B, F, H, W, 3] in [-1, 1], F = 1 + a multiple of s_t, H and W
        multiples of the spatial stride.

    Returns:
      Two float32 arrays [B, T, h, w, C]; all channels share a log-variance.

    Raises:
      ValueError: the video's shape does not fit the strides.
    """
    self.config.check_video(video.shape)
    p = self.config.patch_size
    # LTX folds columns before rows, and only here.
    folded = fold(video.swapaxes(2, 3), (1, p, p)).swapaxes(2, 3)
    features = self.encoder(folded).astype(jnp.float32)
    mean, logvar = features[..., :-1], features[..., -1:]
    logvar = jnp.broadcast_to(jnp.clip(logvar, *_LOGVAR_RANGE), mean.shape)
    return mean, logvar

  def normalise(self, latents: Array) -> Array:
    """Posterior samples or means -> normalised latents."""
    mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
    return (latents - mean) / std

  def encode(self, video: Array, noise: Array | None = None) -> Array:
    """Normalised latents.

    Args:
      video: as for `moments`.
      noise: [B, T, h, w, C] from N(0, 1) for a sample of the posterior; None
        for its mean.

    Returns:
      [B, T, h, w, C] float32.
    """
    latents, logvar = self.moments(video)
    if noise is not None:
      latents = latents + jnp.exp(0.5 * logvar) * noise
    return self.normalise(latents)

  def decode(
      self,
      latents: Array,
      timestep: Array | None = None,
      noise: Sequence[Array] | None = None,
      clamp: bool = True,
  ) -> Array:
    """Video of normalised latents.

    Args:
      latents: [B, T, h, w, C].
      timestep: [B] in [0, 1], how noisy the latents are taken to be; needed by
        and allowed for a conditioned decoder only.
      noise: what is injected, of `LtxVaeConfig.noise_shapes(h, w)`; None for
        nothing.
      clamp: to [-1, 1]; losses need the raw values.

    Returns:
      [B, 1 + s_t (T - 1), H, W, 3] float32.

    Raises:
      ValueError: timestep or noise does not fit the decoder.
    """
    noise = () if noise is None else tuple(noise)
    self._check_conditions(latents, timestep, noise)
    mean, std = jax.lax.stop_gradient((self.latent_mean, self.latent_std))
    x = self.decoder(latents * std + mean, timestep, noise)
    p = self.config.patch_size
    video = unfold(x.swapaxes(2, 3), (1, p, p)).swapaxes(2, 3)
    video = video.astype(jnp.float32)
    return jnp.clip(video, -1.0, 1.0) if clamp else video

  def _check_conditions(self, latents, timestep, noise) -> None:
    """Raises ValueError unless the decoder takes this timestep and noise."""
    c = self.config
    if (timestep is not None) != c.timestep_conditioning:
      given = 'no timestep' if timestep is None else 'a timestep'
      raise ValueError(
          f'{given} for a decoder with timestep_conditioning '
          f'{c.timestep_conditioning}: expected the other'
      )
    shapes = c.noise_shapes(*latents.shape[2:4])
    if noise and [n.shape for n in noise] != shapes:
      raise ValueError(
          f'noise of shapes {[n.shape for n in noise]}: expected {shapes}'
      )


def init(config: LtxVaeConfig, key: Array) -> dict:
  """Fresh parameters, a nested dict of float32 arrays."""
  side = config.spatial_stride
  video = jnp.zeros((1, 1 + config.temporal_stride, side, side, 3))
  # Compiled, so that the forward pass behind an init is not computed.
  return jax.jit(LtxVae(config).init)(key, video)['params']
