"""Released folders as the parts of one model: sizes and parameters.

  flashhead-pro, -lite  Model_Pro or Model_Lite, VAE_Wan/Wan2.1_VAE.pth or
                        VAE_LTX, and a wav2vec2 folder inside or beside
  wan2.1-t2v-1.3b       the original folder or the diffusers one (transformer/,
                        vae/), and a wav2vec2 folder: a start for training

All headers are read, and all sizes settled, before any tensor is converted.
"""

from collections.abc import Callable
import dataclasses
import os
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from asymtalker_jax.convert import configs
from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import reader
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.convert import wan_vae as wan_layouts
from asymtalker_jax.convert import wav2vec2 as speech_layouts
from asymtalker_jax.models import dit
from asymtalker_jax.models import variants

KINDS = ('flashhead-pro', 'flashhead-lite', 'wan2.1-t2v-1.3b')
_SPEECH = 'wav2vec2-base-960h'
_WAN_VAE_FILES = ('Wan2.1_VAE.pth', 'Wan2.1_VAE.safetensors')
_WAN_STRIDE = (4, 8, 8)
_WAN_VAE_SIZES = dict(
    dim=96, dim_mult=[1, 2, 4, 4], num_res_blocks=2, z_dim=16,
    temperal_downsample=[False, True, True],
)  # pyformat: disable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """One network of a release: converted when `params` is called."""

  values: dict[str, Any]
  params: Callable[[], dict[str, Any]]
  config: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
  """What a bundle is made of.

  Attributes:
    variant: name of the sizes.
    model: values for `variants.build`.
    parts: 'vae', 'dit', 'audio'.
  """

  variant: str
  model: dict[str, Any]
  parts: dict[str, Part]


def read(kind: str, source: str, audio: str | None = None) -> Release:
  """Opens a release.

  Args:
    kind: one of KINDS.
    source: folder of the release.
    audio: folder of wav2vec2; by default inside or beside `source`.

  Raises:
    FileNotFoundError: a folder or file of the release is missing.
    ValueError: unknown kind, damaged files, or another kind of release.
  """
  if kind not in KINDS:
    raise ValueError(f'kind {kind!r}: expected one of {", ".join(KINDS)}')
  if not os.path.isdir(source):
    raise FileNotFoundError(f'{source}: no such folder')
  speech = _speech(_speech_folder(source, audio))
  variant = 'lite' if kind == 'flashhead-lite' else 'pro'
  model = variants.values_of(variant)
  if kind == 'wan2.1-t2v-1.3b':
    vae, network, stride = _wan_parts(source, speech, model['dit'])
  else:
    name = 'Model_Lite' if variant == 'lite' else 'Model_Pro'
    network, stride = _flashhead(os.path.join(source, name), speech, model)
    if variant == 'lite':
      vae = _ltx_vae(os.path.join(source, 'VAE_LTX'))
    else:
      vae = _wan_vae_file(os.path.join(source, 'VAE_Wan'))
  model['dit'] |= _dit_values(network.config)
  model['vae'], model['audio'] = vae.values, speech.values
  model['chunk'] |= dict(
      temporal_stride=stride[0],
      spatial_stride=stride[1],
      latent_channels=network.config.latent_channels,
  )
  variants.build(model)  # The parts have to fit each other.
  parts = {'vae': vae, 'dit': network, 'audio': speech}
  return Release(variant=variant, model=model, parts=parts)


def _stored(targets: Any, tensors: reader.Tensors) -> Any:
  """Targets in the type of the checkpoint, so that nothing is held wider."""
  half = tensors.widest == 'bfloat16'
  dtype = np.dtype(ml_dtypes.bfloat16 if half else tensors.widest)
  return jax.tree.map(lambda t: jax.ShapeDtypeStruct(t.shape, dtype), targets)


def _convert(path, tensors, table, targets) -> Callable[[], dict[str, Any]]:
  def params():
    try:
      return rules.convert(tensors, table, _stored(targets, tensors))
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error

  return params


def _values(config: Any, template: dict[str, Any]) -> dict[str, Any]:
  """A config as the values of a variant, with the variant's own precision."""
  values = dataclasses.asdict(config) | {'kind': template['kind']}
  return values | {'dtype': template['dtype']}


def _dit_values(config: dit.DiTConfig) -> dict[str, Any]:
  names = ('width', 'depth', 'heads', 'ffn', 'patch', 'frequency_dim', 'eps',
           'audio_hidden', 'audio_tokens')  # pyformat: disable
  return {name: getattr(config, name) for name in names}


def _speech_folder(source: str, audio: str | None) -> str:
  if audio:
    return audio
  source = os.path.abspath(source)
  places = [os.path.join(source, _SPEECH),
            os.path.join(os.path.dirname(source), _SPEECH)]  # pyformat: disable
  for place in places:
    if os.path.isdir(place):
      return place
  raise FileNotFoundError(
      f'{_SPEECH}: expected at {" or ".join(places)}, or given by --audio'
  )


def _speech(folder: str) -> Part:
  config = speech_layouts.config_of(
      reader.read_json(os.path.join(folder, 'config.json'))
  )
  tensors = reader.open_checkpoint(folder)
  template = variants.values_of('pro')['audio']
  return Part(
      values=_values(config, template),
      config=config,
      params=_convert(
          folder, tensors, speech_layouts.table_of(tensors),
          speech_layouts.targets(config),
      ),
  )  # pyformat: disable


def _flashhead(folder: str, speech: Part, model) -> tuple[Part, list[int]]:
  published = reader.read_json(os.path.join(folder, 'config.json'))
  tensors, chunk = reader.open_checkpoint(folder), model['chunk']
  # The code sets it, not the released configuration.
  strides = [chunk['temporal_stride'], *2 * [chunk['spatial_stride']]]
  published.setdefault('vae_stride', strides)
  keys = ('audio_proj.proj1.weight', 'audio_proj.proj3.weight')
  config = configs.flashhead_dit(
      published, tensors.shapes(*keys),
      (speech.config.layers, speech.config.channels),
  )  # pyformat: disable
  params = _convert(
      folder, tensors, flashhead.table(config), wan_dit.targets(config)
  )
  part = Part(values={}, config=config, params=params)
  return part, list(published['vae_stride'])


def _ltx_vae(folder: str) -> Part:
  config = ltx_layouts.config_of(
      reader.read_json(os.path.join(folder, 'config.json'))
  )
  tensors = reader.open_checkpoint(folder)
  if any('.resnets.' in key for key in tensors):
    table = ltx_layouts.diffusers_table(config)
  else:
    prefix = 'vae.' if any(key.startswith('vae.') for key in tensors) else ''
    table = ltx_layouts.original_table(config, prefix)
  return Part(
      values=_values(config, variants.values_of('lite')['vae']),
      config=config,
      params=_convert(folder, tensors, table, ltx_layouts.targets(config)),
  )


def _wan_vae_file(folder: str) -> Part:
  for name in _WAN_VAE_FILES:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      sizes = os.path.join(folder, 'vae_config.json')  # Of no release.
      config = configs.wan_vae_sizes(
          reader.read_json(sizes) if os.path.isfile(sizes) else _WAN_VAE_SIZES
      )
      return _wan_vae(path, config, wan_layouts.original_table(config))
  raise FileNotFoundError(f'{folder}: no {" or ".join(_WAN_VAE_FILES)}')


def _wan_vae(path, config, table) -> Part:
  tensors = reader.open_checkpoint(path)
  return Part(
      values=_values(config, variants.values_of('pro')['vae']),
      config=config,
      params=_convert(path, tensors, table, wan_layouts.targets(config)),
  )


def _wan_parts(source, speech, values):
  """(VAE, DiT, stride) of Wan 2.1 text-to-video, either layout."""
  inner = os.path.join(source, 'transformer')
  diffusers = os.path.isdir(inner)
  folder = inner if diffusers else source
  published = reader.read_json(os.path.join(folder, 'config.json'))
  if diffusers:
    text = configs.wan_dit_diffusers(published)
    table = wan_dit.diffusers_table(text)
    vae_folder = os.path.join(source, 'vae')
    sizes = reader.read_json(os.path.join(vae_folder, 'config.json'))
    config = configs.wan_vae_sizes(sizes)
    statistics = (sizes['latents_mean'], sizes['latents_std'])
    vae = _wan_vae(
        vae_folder, config, wan_layouts.diffusers_table(config, *statistics)
    )
  else:
    text = configs.wan_dit_original(published)
    table, vae = wan_dit.original_table(text), _wan_vae_file(source)
  tensors = reader.open_checkpoint(folder)
  start = dataclasses.replace(
      text,
      cross_attention='audio',
      temporal_stride=_WAN_STRIDE[0],
      audio_layers=speech.config.layers,
      audio_channels=speech.config.channels,
      audio_hidden=values['audio_hidden'],
      audio_tokens=values['audio_tokens'],
  )
  convert = _convert(folder, tensors, table, wan_dit.targets(text))
  part = Part(
      values={}, config=start, params=lambda: _talking_start(convert(), start)
  )
  return vae, part, list(_WAN_STRIDE)


def _talking_start(text_params, config: dit.DiTConfig) -> dict[str, Any]:
  """A talking head that starts as text-to-video; logs what is new."""
  windows = (1, 1 + config.temporal_stride, 5)
  sound = jnp.zeros((*windows, config.audio_layers, config.audio_channels))
  fresh = dit.DiT(config).init(
      jax.random.key(0), audio=sound, method='context'
  )['params']
  dtype = text_params['patch_embedding']['kernel'].dtype
  fresh = jax.tree.map(lambda x: np.asarray(x).astype(dtype), fresh)
  wanted = wan_dit.targets(config) | fresh
  params, new = wan_dit.start_from_text_to_video(text_params, wanted, config)
  for line in new:
    logging.info('new: %s', line)
  return params
