"""The outputs of golden files of FlashHead's whole pipeline, Pro and Lite.

This is the original schedule, which only lives here: sound is cut and padded
as in its `generate_video.py`, the continuity is encoded from the last frames
of a chunk, and every random draw comes from the file. Our own generator follows
docs/method.md (6) instead.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from asymtalker_jax import types
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit as wan_layouts
from asymtalker_jax.convert import wan_vae as wan_vae_layouts
from asymtalker_jax.convert import wav2vec2 as speech_layouts
from asymtalker_jax.flow import path
from asymtalker_jax.flow import samplers
from asymtalker_jax.generate import color
from asymtalker_jax.generate import speech
from asymtalker_jax.inputs import audio
from asymtalker_jax.models import dit
from asymtalker_jax.models import ltx_vae
from asymtalker_jax.models import wan_vae
from asymtalker_jax.models import wav2vec2
from asymtalker_jax.parity import golden as golden_lib
from asymtalker_jax.parity import mathematics
from asymtalker_jax.parity.autoencoders import call
from asymtalker_jax.parity.transformers import channels_first
from asymtalker_jax.parity.transformers import channels_last

_GUIDANCE = 3.0  # Of the many-step model, on the audio only.
_CORRECTED = {'cc0': False, 'cc1': True}  # Strength 0 and 1.


@dataclasses.dataclass(frozen=True)
class _Pipeline:
  """Networks and parameters of one file."""

  dit_config: dit.DiTConfig
  dit_params: types.Params
  vae_class: Any
  vae_config: Any
  vae_params: types.Params
  speech_config: wav2vec2.Wav2Vec2Config
  speech_params: types.Params
  infer: dict[str, Any]

  def vae(self, method: str, *args, **kwargs) -> jax.Array:
    return call(
        self.vae_class, self.vae_config, method, self.vae_params, *args,
        **kwargs,
    )  # pyformat: disable

  def encode(self, video: np.ndarray, noise: np.ndarray | None) -> jax.Array:
    """Video [1, F, H, W, 3]; noise [1, C, T, h, w] of the posterior or None."""
    if noise is None:
      return self.vae('encode', video)
    return self.vae('encode', video, channels_last(noise))

  def decode(self, latents: jax.Array) -> jax.Array:
    """Only Wan's VAE clamps in the reference."""
    clamp = self.vae_class is wan_vae.WanVae
    return self.vae('decode', latents, clamp=clamp)

  @property
  def continuity_frames(self) -> int:
    slots = self.infer['motion_frames_latent_num']
    return (slots - 1) * self.dit_config.temporal_stride + 1


def _load(golden: golden_lib.Golden) -> _Pipeline:
  published, weights = golden.config['dit'][0], golden.weights('dit.')
  speech_config = golden.at_precision(
      speech_layouts.config_of(golden.config['w2v'])
  )
  shapes = {key: np.shape(value) for key, value in weights.items()}
  dit_config = golden.at_precision(configs.flashhead_dit(
      published, shapes, (speech_config.layers, speech_config.channels)
  ))
  dit_params = rules.convert(
      weights, flashhead.table(dit_config), wan_layouts.targets(dit_config)
  )
  if 'dim_mult' in golden.config['vae']:
    network, layouts = wan_vae.WanVae, wan_vae_layouts
    config = configs.wan_vae_sizes(golden.config['vae'])
  else:
    network, layouts = ltx_vae.LtxVae, ltx_layouts
    config = ltx_layouts.config_of(golden.config['vae'])
  config = golden.at_precision(config)
  vae_params = rules.convert(
      golden.weights('vae.'), layouts.original_table(config),
      layouts.targets(config),
  )  # pyformat: disable
  heard = golden.weights('wav2vec.')
  speech_params = rules.convert(
      heard, speech_layouts.table_of(heard),
      speech_layouts.targets(speech_config),
  )  # pyformat: disable
  return _Pipeline(
      dit_config, dit_params, network, config, vae_params, speech_config,
      speech_params, golden.config['infer'],
  )  # pyformat: disable


def _reference_image(
    image: np.ndarray, height: int, width: int
) -> np.ndarray:
  """[1, H, W, 3] in [-1, 1]: scaled to cover the frame, centre crop."""
  source_height, source_width = image.shape[:2]
  scale = max(height / source_height, width / source_width)
  size = math.ceil(scale * source_width), math.ceil(scale * source_height)
  picture = Image.fromarray(image.astype(np.uint8)).resize(
      size, Image.Resampling.BILINEAR
  )
  top = round((size[1] - height) / 2.0)
  left = round((size[0] - width) / 2.0)
  cut = np.asarray(picture)[top : top + height, left : left + width]
  return (cut[None].astype(np.float32) / 255.0 - 0.5) * 2.0


@functools.partial(jax.jit, static_argnums=(0, 3))
def _listen(config, params, waveform, frames) -> jax.Array:
  return wav2vec2.encode(config, params, waveform, frames)


def _features(pipeline: _Pipeline, waveform: np.ndarray) -> np.ndarray:
  """[N, L, A] of one buffer, normalised as a whole."""
  prepared = wav2vec2.prepare_waveform(waveform)
  frames = int(len(waveform) * pipeline.infer['tgt_fps']
               / pipeline.infer['sample_rate'])
  return np.asarray(_listen(
      pipeline.speech_config, pipeline.speech_params, prepared, frames
  ))


def _sound_windows(
    pipeline: _Pipeline, mode: str, waveform: np.ndarray
) -> list[np.ndarray]:
  """[1, F, 5, L, A] per chunk, in one of the reference's two modes.

  Args:
    pipeline: of the file.
    mode: 'once' encodes the whole file; 'stream' a ring buffer per chunk,
      whose last F frames count.
    waveform: [S].
  """
  infer, frames = pipeline.infer, pipeline.infer['frame_num']
  rate, fps = infer['sample_rate'], infer['tgt_fps']
  new = frames - pipeline.continuity_frames
  part = new * rate // fps
  if mode == 'once':
    rest = (len(waveform) - frames * rate // fps) % part
    sound = np.pad(waveform, (0, (part - rest) % part))
    features = _features(pipeline, sound)
    # The reference leaves out the last whole chunk.
    count = (len(features) - frames) // new
    windows = audio.window_features(features, 0, len(features))
    return [windows[None, i * new : i * new + frames] for i in range(count)]
  if mode != 'stream':
    raise ValueError(f"audio mode {mode!r}: expected 'once' or 'stream'")
  plan = types.ChunkPlan(
      frames=frames, height=infer['height'], width=infer['width'],
      temporal_stride=pipeline.dit_config.temporal_stride, spatial_stride=1,
      latent_channels=pipeline.dit_config.latent_channels,
      continuity_slots=infer['motion_frames_latent_num'],
  )  # pyformat: disable
  stream = speech.Streaming(
      wav2vec2.Wav2Vec2Encoder(pipeline.speech_config), pipeline.speech_params,
      plan, [waveform], -(-len(waveform) // part) * new,
      infer['cached_audio_duration'],
  )  # pyformat: disable
  heard = [stream.hear(i)[0] for i in range(stream.chunks)]
  radius = speech.RADIUS
  return [
      audio.window_features(rows, radius, frames, radius)[None]
      for rows in heard
  ]


@functools.partial(jax.jit, static_argnums=0)
def _few_step(config, params, conditioning, sigmas, init, renoise):
  """(latents [1, T, h, w, C], velocities [N, T, h, w, C]) of one chunk.

  Args:
    config: of the DiT.
    params: of the DiT.
    conditioning: batch of 1.
    sigmas: [N + 1] that end in 0.
    init: [1, T, h, w, C] noise.
    renoise: [N, 1, T, h, w, C] drawn after each step.
  """
  velocity = _velocity(config, params)

  def step(x, inputs):
    sigma, following, noise = inputs
    x = samplers.hold_clean(x, conditioning)
    v = velocity(x, jnp.full((1,), path.TIMESTEPS * sigma), conditioning)
    x0 = path.predict_x0(x, v, sigma)
    return path.add_noise(x0, noise, following), v[0]

  x, flows = jax.lax.scan(step, init, (sigmas[:-1], sigmas[1:], renoise))
  return samplers.hold_clean(x, conditioning), flows


@functools.partial(jax.jit, static_argnums=0)
def _guided(config, params, conditioning, sigmas, init):
  guided = samplers.guided(_velocity(config, params), _GUIDANCE)
  return samplers.euler(guided, conditioning, sigmas, init)


def _velocity(config, params) -> types.Velocity:
  def velocity(x, timestep, c):
    return dit.DiT(config).apply(
        {'params': params}, x, timestep, c.reference, c.audio
    )

  return velocity


def _conditioning(reference, sound, continuity) -> types.Conditioning:
  """One clip; the continuity [1, m, h, w, C] holds the first m slots clean."""
  slots, total = continuity.shape[1], reference.shape[1]
  later = [(0, 0), (0, total - slots), (0, 0), (0, 0), (0, 0)]
  return types.Conditioning(
      reference=reference,
      audio=sound,
      continuity=jnp.pad(continuity, later),
      mask=(jnp.arange(total) < slots).astype(jnp.float32)[None],
  )


_correct = jax.jit(functools.partial(color.transfer, strength=1.0))


def outputs(golden: golden_lib.Golden) -> dict[str, Any]:
  """All that the file records of its chunks, with and without correction."""
  pipeline, infer = _load(golden), golden.config['infer']
  image = _reference_image(
      golden['in.ref_image_u8'], infer['height'], infer['width']
  )
  still = np.repeat(image[:, None], infer['frame_num'], 1)
  draw = golden.tensors.get('noise.ref_encode_eps')
  reference = pipeline.encode(still, draw)
  sound = _sound_windows(pipeline, golden.config['mode'], golden['in.audio'])
  sigmas = mathematics.flashhead_sigmas(
      infer['sample_steps'], float(infer['sample_shift'])
  )
  found = {
      'cond_image_tensor': channels_first(image[:, None]),
      'ref_img_latent': channels_first(reference[0]),
      'timesteps': path.TIMESTEPS * sigmas,
  }
  found |= {f'audio.chunk{i}': window for i, window in enumerate(sound)}
  for run, corrected in _CORRECTED.items():
    chunks = _run(golden, pipeline, image, reference, sound, sigmas, corrected)
    found |= {f'{run}.{name}': value for name, value in chunks.items()}
  if 'noise.pre.init' in golden.tensors:
    steps = golden['out.pre.timesteps'].size - 1
    many = mathematics.flashhead_sigmas(steps, float(infer['sample_shift']))
    found['pre.timesteps'] = path.TIMESTEPS * many
    latents = _guided(
        pipeline.dit_config, pipeline.dit_params,
        _conditioning(reference, sound[1], reference[:, :1]), many,
        channels_last(golden['noise.pre.init'])[None],
    )  # pyformat: disable
    found['pre.latent'] = channels_first(latents[0])
  return found


def _draw(golden: golden_lib.Golden, chunk: str, name: str) -> np.ndarray:
  """Recorded noise [1, T, h, w, C]."""
  return channels_last(golden[f'noise.{chunk}.{name}'])[None]


def _run(
    golden, pipeline, image, reference, sound, sigmas, corrected
) -> dict[str, Any]:
  """Chunk after chunk, each continuing the corrected end of the last."""
  found, continuity = {}, reference[:, :1]
  frame = None
  for i, window in enumerate(sound):
    chunk = f'chunk{i}'
    if f'noise.{chunk}.init' not in golden.tensors:
      break
    latents, flows = _few_step(
        pipeline.dit_config, pipeline.dit_params,
        _conditioning(reference, window, continuity), sigmas,
        _draw(golden, chunk, 'init'),
        np.stack([
            _draw(golden, chunk, f'renoise{n}') for n in range(len(sigmas) - 1)
        ]),
    )  # pyformat: disable
    video = pipeline.decode(latents)
    if corrected:
      video = _correct(video, image)
    continuity = pipeline.encode(
        video[:, -pipeline.continuity_frames :],
        golden.tensors.get(f'noise.{chunk}.motion_encode_eps'),
    )
    found[f'{chunk}.flow'] = channels_first(flows)
    found[f'{chunk}.latent'] = channels_first(latents[0])
    found[f'{chunk}.video'] = channels_first(video[0])
    found[f'{chunk}.motion_latent'] = channels_first(continuity[0])
    frame = np.asarray(video[0, -1])
  if frame is not None:
    # Cut off, not rounded.
    found['last_frame_u8'] = np.trunc(np.clip(frame / 2 + 0.5, 0, 1) * 255)
  return found
