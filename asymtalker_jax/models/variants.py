"""Named sizes and the networks built from them.

A variant is a nested dictionary of plain values; a bundle stores it, so that a
checkpoint says what it is. `build` turns it into functions over parameters.
"""

import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.models import dit as dit_lib
from asymtalker_jax.models import log_mel
from asymtalker_jax.models import ltx_vae
from asymtalker_jax.models import wan_vae
from asymtalker_jax.models import wav2vec2
from asymtalker_jax.parallel import sharding

# LTX-Video 0.9.0: the encoder reads the list forwards, the decoder backwards.
_LTX_BLOCKS = (
    ('res_x', 4),
    ('compress_all', 1),
    ('res_x_y', 1),
    ('res_x', 3),
    ('compress_all', 1),
    ('res_x_y', 1),
    ('res_x', 3),
    ('compress_all', 1),
    ('res_x', 3),
    ('res_x', 4),
)

VARIANTS: dict[str, dict[str, Any]] = {
    # 128x128 on a laptop: 9 x 16 x 16 latents, 576 tokens.
    'tiny': {
        'chunk': dict(
            frames=33,
            height=128,
            width=128,
            temporal_stride=4,
            spatial_stride=8,
            latent_channels=24,
            continuity_slots=2,
            fps=25,
        ),
        'vae': dict(
            kind='wan',
            patch_size=4,
            base_channels=32,
            multipliers=(1, 2, 2),
            strides=((2, 2), (1, 2)),
            res_blocks=1,
            latent_channels=24,
            dtype='float32',
            decoded_at_once=1,
        ),
        'dit': dict(
            width=192,
            depth=6,
            heads=3,
            ffn=768,
            patch=(1, 2, 2),
            audio_hidden=256,
            audio_tokens=4,
            dtype='float32',
            remat='dots',
        ),
        'audio': dict(kind='log_mel', mels=40, steps=4),
        'reference_encoding': 'temporal',
    },
    # 64x64 for ablation sweeps and tests: 9 x 8 x 8 latents, 144 tokens.
    'micro': {
        'chunk': dict(
            frames=33,
            height=64,
            width=64,
            temporal_stride=4,
            spatial_stride=8,
            latent_channels=8,
            continuity_slots=2,
            fps=25,
        ),
        'vae': dict(
            kind='wan',
            patch_size=4,
            base_channels=16,
            multipliers=(1, 2, 2),
            strides=((2, 2), (1, 2)),
            res_blocks=1,
            latent_channels=8,
            dtype='float32',
        ),
        'dit': dict(
            width=128,
            depth=4,
            heads=4,
            ffn=512,
            patch=(1, 2, 2),
            audio_hidden=64,
            audio_tokens=2,
            dtype='float32',
            remat='dots',
        ),
        'audio': dict(kind='log_mel', mels=40, steps=4),
        'reference_encoding': 'temporal',
    },
    # 512x512 as SoulX-FlashHead Pro: 9 x 64 x 64 latents, 9216 tokens, 1.5e9
    # parameters in the DiT; VAE of Wan 2.1, wav2vec2-base.
    'pro': {
        'chunk': dict(
            frames=33,
            height=512,
            width=512,
            temporal_stride=4,
            spatial_stride=8,
            latent_channels=16,
            continuity_slots=2,
            fps=25,
        ),
        'vae': dict(
            kind='wan',
            patch_size=1,
            base_channels=96,
            multipliers=(1, 2, 4, 4),
            strides=((2, 1), (2, 2), (2, 2)),
            res_blocks=2,
            latent_channels=16,
            dtype='bfloat16',
        ),
        'dit': dict(
            width=1536,
            depth=30,
            heads=12,
            ffn=8960,
            patch=(1, 2, 2),
            audio_hidden=512,
            audio_tokens=32,
            dtype='bfloat16',
            remat='full',
        ),
        'audio': dict(
            kind='wav2vec2',
            width=768,
            depth=12,
            heads=12,
            ffn=3072,
            dtype='float32',
        ),
        'reference_encoding': 'temporal',
    },
    # SoulX-FlashHead Lite: 5 x 16 x 16 latents, 1280 tokens. LTX-Video 0.9.0
    # VAE, the DiT of 'pro' with one token per latent cell.
    'lite': {
        'chunk': dict(
            frames=33,
            height=512,
            width=512,
            temporal_stride=8,
            spatial_stride=32,
            latent_channels=128,
            continuity_slots=2,
            fps=25,
        ),
        'vae': dict(
            kind='ltx',
            encoder_blocks=_LTX_BLOCKS,
            decoder_blocks=_LTX_BLOCKS,
            encoder_base_channels=128,
            decoder_base_channels=128,
            latent_channels=128,
            patch_size=4,
            dtype='bfloat16',
        ),
        'dit': dict(
            width=1536,
            depth=30,
            heads=12,
            ffn=8960,
            patch=(1, 1, 1),
            audio_hidden=512,
            audio_tokens=32,
            dtype='bfloat16',
            remat='full',
        ),
        'audio': dict(
            kind='wav2vec2',
            width=768,
            depth=12,
            heads=12,
            ffn=3072,
            dtype='float32',
        ),
        'reference_encoding': 'temporal',
    },
}


AUDIO_FPS = 25
# Kind -> type of the configuration, network over it.
_VAES = {
    'ltx': (ltx_vae.LtxVaeConfig, ltx_vae.LtxVae),
    'wan': (wan_vae.WanVaeConfig, wan_vae.WanVae),
}
_AUDIO = {
    'log_mel': (log_mel.LogMelConfig, log_mel.LogMelEncoder),
    'wav2vec2': (wav2vec2.Wav2Vec2Config, wav2vec2.Wav2Vec2Encoder),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
  """The functions of one variant; parameters are always an argument.

  Attributes:
    values: the variant's dictionary.
    chunk: geometry.
    vae: 3-D VAE module.
    dit: diffusion transformer module.
    audio: audio encoder.
  """

  values: dict[str, Any] = dataclasses.field(compare=False)
  chunk: types.ChunkPlan
  vae: ltx_vae.LtxVae | wan_vae.WanVae
  dit: dit_lib.DiT
  audio: log_mel.LogMelEncoder | wav2vec2.Wav2Vec2Encoder

  def init(self, key: jax.Array) -> dict[str, types.Params]:
    """Random parameters {'vae', 'dit', 'audio'}."""
    vae_key, dit_key = jax.random.split(key)
    return {
        'vae': self.init_vae(vae_key),
        'dit': self.init_dit(dit_key),
        'audio': self.audio.init(jax.random.fold_in(key, 2)),
    }

  def init_vae(self, key: jax.Array) -> types.Params:
    """Random parameters of the VAE."""
    plan = self.chunk
    frames = 1 + 2 * plan.temporal_stride
    side = 2 * plan.spatial_stride
    video = jnp.zeros((1, frames, side, side, 3))
    return self.vae.init(key, video)['params']

  def init_dit(self, key: jax.Array) -> types.Params:
    """Random parameters of the diffusion transformer."""
    plan, audio = self.chunk, self.audio.config
    latents = jnp.zeros((1, *plan.latent_shape))
    features = jnp.zeros(
        (1, plan.frames, 5, audio.layers, audio.channels)
    )
    return self.dit.init(key, latents, jnp.zeros((1,)), latents, features)[
        'params'
    ]

  def encode_video(self, params: types.Params, video) -> jax.Array:
    """Video [B, F, H, W, 3] in [-1, 1] -> normalised latents [B, T, h, w, C]."""
    video = sharding.constrain_activation(video, seq_axis=2)
    latents = self._apply_vae(params, video, method='encode')
    return sharding.constrain_activation(latents)

  def decode_video(self, params: types.Params, latents) -> jax.Array:
    """Normalised latents [B, T, h, w, C] -> video in [-1, 1]."""
    latents = sharding.constrain_activation(latents, seq_axis=2)
    return self._apply_vae(params, latents, method='decode')

  def decode_tail(
      self, params: types.Params, latents, frames: int
  ) -> jax.Array:
    """The last `frames` frames of `decode_video`.

    A causal decoder goes through the latent frames one by one, so that it
    holds the activations of s_t video frames instead of all F.
    """
    if not isinstance(self.vae, wan_vae.WanVae):
      return self.decode_video(params, latents)[:, -frames:]

    def step(cache, z):
      z = sharding.constrain_activation(z[:, None], seq_axis=2)
      video, cache = self._apply_vae(params, z, cache, method='decode_step')
      return cache, video

    cache, _ = step(None, latents[:, 0])
    _, videos = jax.lax.scan(step, cache, jnp.moveaxis(latents[:, 1:], 1, 0))
    needed = -(-frames // self.chunk.temporal_stride)
    tail = jnp.moveaxis(videos[-needed:], 0, 1)
    return tail.reshape(len(latents), -1, *videos.shape[3:])[:, -frames:]

  def _apply_vae(self, params: types.Params, *args, method: str):
    """The VAE with whole kernels on every device.

    They are small beside its activations. If they stay in parts, as FSDP keeps
    them, XLA splits channels instead of examples and adds up every output.
    """
    whole = jax.tree.map(sharding.constrain, params)
    return self.vae.apply({'params': whole}, *args, method=method)

  def prepare_waveform(self, waveform: np.ndarray) -> np.ndarray:
    """What the encoder expects of [S] samples, [S] (host, numpy)."""
    return self.audio.prepare_waveform(waveform)

  def encode_audio(
      self, params: types.Params, waveform: jax.Array, frames: int
  ) -> jax.Array:
    """Prepared waveform [S] at 16 kHz -> features [N, L, A] at 25 Hz."""
    return self.audio.encode(params, waveform, frames)

  def velocity(
      self,
      params: types.Params,
      x: jax.Array,
      timestep: jax.Array,
      conditioning: types.Conditioning,
  ) -> jax.Array:
    """Velocity of the diffusion transformer, see `types.Velocity`."""
    if self.dit.config.per_frame_timestep:
      timestep = timestep[:, None] * (1.0 - conditioning.mask)
    return self.dit.apply(
        {'params': params},
        x,
        timestep,
        conditioning.reference,
        conditioning.audio,
    )

  def bind_velocity(self, params: types.Params) -> types.Velocity:
    """`velocity` over fixed parameters."""
    return functools.partial(self.velocity, params)

  def bind_weak_velocity(self, params: types.Params) -> types.Velocity:
    """`velocity` without the self-attention of the middle block."""
    middle = self.dit.config.depth // 2
    return self.bind_velocity(dit_lib.without_self_attention(params, middle))


def with_remat(networks: Networks, remat: str) -> Networks:
  """Networks whose transformer keeps other activations for its gradient.

  Args:
    networks: of any variant; the values that a bundle stores do not change.
    remat: see `DiTConfig`.

  Raises:
    ValueError: unknown policy.
  """
  config = dataclasses.replace(networks.dit.config, remat=remat)
  return dataclasses.replace(networks, dit=dit_lib.DiT(config))


def values_of(name: str) -> dict[str, Any]:
  """A copy of the named variant's values.

  Raises:
    ValueError: unknown name.
  """
  if name not in VARIANTS:
    raise ValueError(f'variant {name!r}: expected one of {sorted(VARIANTS)}')
  return copy.deepcopy(VARIANTS[name])


def build(values: dict[str, Any]) -> Networks:
  """Networks of a variant's values.

  Raises:
    ValueError: unknown kind of VAE or audio encoder, unknown or missing keys,
      or sizes of the parts that do not fit each other.
  """
  _check_keys('variant', values, VARIANTS['tiny'])
  plan = types.ChunkPlan(**values['chunk'])
  audio = _part('audio', values['audio'], _AUDIO)
  vae = _part('vae', values['vae'], _VAES)
  dit = _dataclass(
      'dit',
      dit_lib.DiTConfig,
      dict(
          values['dit'],
          latent_channels=plan.latent_channels,
          temporal_stride=plan.temporal_stride,
          audio_layers=audio.config.layers,
          audio_channels=audio.config.channels,
      ),
  )
  for name in ('latent_channels', 'temporal_stride', 'spatial_stride'):
    wanted, found = getattr(plan, name), getattr(vae.config, name)
    if wanted != found:
      raise ValueError(f'chunk.{name} {wanted} differs from {found} of the VAE')
  if not 1 <= plan.continuity_slots < plan.latent_frames:
    raise ValueError(
        f'chunk.continuity_slots {plan.continuity_slots}: expected at least 1'
        f' and fewer than the {plan.latent_frames} latent frames of a chunk'
    )
  if plan.fps != AUDIO_FPS:
    raise ValueError(
        f'chunk.fps {plan.fps}: expected {AUDIO_FPS}, the rate of the features'
        ' of the speech'
    )
  return Networks(
      values=values,
      chunk=plan,
      vae=vae,
      dit=dit_lib.DiT(dit),
      audio=audio,
  )


def _check_keys(name, values, expected):
  difference = set(values) ^ set(expected)
  if difference:
    raise ValueError(
        f'{name}: keys {sorted(difference)} are missing or unknown; expected'
        f' {sorted(expected)}'
    )


def _part(name: str, values: dict[str, Any], kinds: dict[str, Any]):
  """A part's network, chosen by the `kind` of its values."""
  values = dict(values)
  kind = values.pop('kind', None)
  if kind not in kinds:
    raise ValueError(f'{name}.kind {kind!r}: expected one of {sorted(kinds)}')
  config_type, network = kinds[kind]
  return network(_dataclass(name, config_type, values))


def _dataclass(name: str, config_type: type, values: dict[str, Any]):
  """config_type(**values), with a readable error and tuples for lists."""
  known = {f.name for f in dataclasses.fields(config_type)}
  unknown = set(values) - known
  if unknown:
    raise ValueError(
        f'{name}: unknown keys {sorted(unknown)}; expected {sorted(known)}'
    )
  return config_type(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value):
  """Lists (as JSON gives them) as tuples, so that configs stay hashable."""
  if isinstance(value, list | tuple):
    return tuple(_tuples(v) for v in value)
  return value
