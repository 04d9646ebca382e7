"""Released folders as the parts of one model: sizes and parameters.

  flashhead-pro, -lite  Model_Pro or Model_Lite, VAE_Wan/Wan2.1_VAE.pth or
                        VAE_LTX, and a wav2vec2 folder inside or beside
  wan2.1-t2v-1.3b       the original folder or the diffusers one (transformer/,
                        vae/), and a wav2vec2 folder: a start for training

All headers are read, and all sizes settled, before any tensor is converted.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import bundle
from asymtalker_jax import sampler_values
from asymtalker_jax import tensor_file
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import layouts
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import reader
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.convert import wan_vae as wan_layouts
from asymtalker_jax.convert import wav2vec2 as speech_layouts
from asymtalker_jax.models import dit
from asymtalker_jax.models import variants

KINDS = ('flashhead-pro', 'flashhead-lite', 'wan2.1-t2v-1.3b')
SPEECH = 'wav2vec2-base-960h'
WAN_VAE = 'Wan2.1_VAE.pth'
_WAN_VAE_FILES = (WAN_VAE, 'Wan2.1_VAE.safetensors')
_WAN_STRIDE = (4, 8, 8)
_WAN_VAE_SIZES = dict(
    dim=96, dim_mult=[1, 2, 4, 4], num_res_blocks=2, z_dim=16,
    temperal_downsample=[False, True, True],
)  # pyformat: disable
# JSON files that belong to weights and come back with them.
_DESCRIPTIONS = ('config.json', 'preprocessor_config.json')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """One network of a release, nothing of it read yet.

  Attributes:
    values: of the bundle's model, {} for the DiT.
    config: of the network.
    tensors: parameter path -> tensor, in the type of the checkpoint.
    record: of the origin, {} if nothing could be written back.
    unused: checkpoint key -> tensor that no network reads.
  """

  values: dict[str, Any]
  config: Any
  tensors: Mapping[str, Any]
  record: dict[str, Any] = dataclasses.field(default_factory=dict)
  unused: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
  """What a bundle is made of.

  Attributes:
    kind: one of KINDS.
    variant: name of the sizes.
    model: values for `variants.build`.
    sampler: of the bundle.
    parts: 'vae', 'dit', 'audio'.
  """

  kind: str
  variant: str
  model: dict[str, Any]
  sampler: dict[str, Any]
  parts: dict[str, Part]

  @property
  def origin(self) -> bundle.Origin:
    """What `asymtalker export` needs to write the release again."""
    records = {name: p.record for name, p in self.parts.items() if p.record}
    unused = {
        f'{name}/{key}': tensor
        for name, part in self.parts.items()
        for key, tensor in part.unused.items()
    }
    return bundle.Origin(
        record={'kind': self.kind, 'parts': records}, unused=unused
    )


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
  _check_folder(kind, source)
  try:
    return _read(kind, source, _speech_folder(source, audio))
  except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
    raise ValueError(
        f'{source}: a config.json does not describe a network ({error})'
    ) from error
  except ValueError as error:
    if source in str(error):
      raise
    raise ValueError(f'{source}: {error}') from error  # Of a config.json.


# Kind -> (what its folder is called, files of which one tells it).
_SIGNS = {
    'flashhead-pro': ('SoulX-FlashHead-1_3B', ('Model_Pro/config.json',)),
    'flashhead-lite': ('SoulX-FlashHead-1_3B', ('Model_Lite/config.json',)),
    'wan2.1-t2v-1.3b': (
        'Wan2.1-T2V-1.3B or Wan2.1-T2V-1.3B-Diffusers',
        ('transformer/config.json', WAN_VAE, _WAN_VAE_FILES[1]),
    ),
}


def _check_folder(kind: str, source: str) -> None:
  """Raises if a folder is not one of this kind, with what it could be."""
  if not os.path.isdir(source):
    raise FileNotFoundError(f'{source}: no such folder')
  found = [
      k for k, (_, files) in _SIGNS.items()
      if any(os.path.isfile(os.path.join(source, f)) for f in files)
  ]  # pyformat: disable
  if kind in found:
    return
  name, files = _SIGNS[kind]
  others = f'; it looks like {" and ".join(found)}' if found else ''
  raise FileNotFoundError(
      f'{source}: no {" or ".join(files)} in it; expected the folder {name}'
      + others
  )


def _read(kind: str, source: str, speech_folder: str) -> Release:
  speech = _speech(speech_folder)
  variant = 'lite' if kind == 'flashhead-lite' else 'pro'
  model = variants.values_of(variant)
  sampler = dict(timestep_rounding='bfloat16', color_correction=1.0)
  if kind == 'wan2.1-t2v-1.3b':
    sampler = {}
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
  return Release(
      kind=kind, variant=variant, model=model,
      sampler=sampler_values.DEFAULTS | sampler,
      parts={'vae': vae, 'dit': network, 'audio': speech},
  )  # pyformat: disable


def _part(
    where: str, tensors: reader.Tensors, layout: layouts.Layout, config: Any,
    targets: Any, values: dict[str, Any],
) -> Part:  # pyformat: disable
  """A part whose keys are all accounted for.

  Args:
    where: folder or file of the checkpoint.
    tensors: all of the checkpoint.
    layout: of the checkpoint.
    config: of the network.
    targets: shapes of its parameters.
    values: of the bundle's model.
  """
  table = layout.table(config)
  unused = {k: v for k, v in tensors.items() if rules.ignored(table, k)}
  used = {k: v for k, v in tensors.items() if k not in unused}
  stored, others = _types(where, used)
  # Nothing is held wider than it is stored; constants have a type of their own.
  types = {path: value.dtype for path, value in table.constants.items()}
  wanted = {
      path: jax.ShapeDtypeStruct(leaf.shape, types.get(path, stored))
      for path, leaf in rules.flatten(targets).items()
  }
  try:
    planned = rules.plan(used, table, wanted)
  except ValueError as error:
    raise ValueError(f'{where}: {error}') from error
  record = dict(
      layout=layout.name, options=dict(layout.options),
      json={  # A single file stands alone.
          name: reader.read_json(os.path.join(where, name))
          for name in _DESCRIPTIONS
          if os.path.isfile(os.path.join(where, name))
      },
      dtype=tensor_file.dtype_name(stored), other_dtypes=others,
  )  # pyformat: disable
  return Part(values=values, config=config, tensors=planned, record=record,
              unused=unused)  # pyformat: disable


def _types(
    where: str, tensors: reader.Tensors
) -> tuple[np.dtype, dict[str, str]]:
  """(type that holds all tensors without loss, key -> name of another)."""
  found = {tensor.dtype for tensor in tensors.values()}
  wrong = sorted(str(d) for d in found if d.name not in bundle.STORED)
  if wrong:
    raise ValueError(
        f'{where}: weights of type {", ".join(wrong)}; expected '
        f'{", ".join(bundle.STORED)}'
    )
  stored = found.pop() if len(found) == 1 else np.dtype(np.float32)
  return stored, {
      key: tensor_file.dtype_name(tensor.dtype)
      for key, tensor in tensors.items()
      if tensor.dtype != stored
  }


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
  places = [os.path.join(source, SPEECH),
            os.path.join(os.path.dirname(source), SPEECH)]  # pyformat: disable
  for place in places:
    if os.path.isdir(place):
      return place
  raise FileNotFoundError(
      f'{SPEECH}: expected at {" or ".join(places)}, or given by --audio'
  )


def _speech(folder: str) -> Part:
  config = speech_layouts.config_of(
      reader.read_json(os.path.join(folder, 'config.json'))
  )
  tensors = reader.open_checkpoint(folder)
  layout = layouts.Layout('wav2vec2', speech_layouts.options_of(tensors))
  return _part(
      folder, tensors, layout, config, speech_layouts.targets(config),
      _values(config, variants.values_of('pro')['audio']),
  )


def _flashhead(folder: str, speech: Part, model) -> tuple[Part, list[int]]:
  published = reader.read_json(os.path.join(folder, 'config.json'))
  tensors, chunk = reader.open_checkpoint(folder), model['chunk']
  # The code sets it, not the released configuration.
  strides = [chunk['temporal_stride'], *2 * [chunk['spatial_stride']]]
  published.setdefault('vae_stride', strides)
  keys = ('audio_proj.proj1.weight', 'audio_proj.proj3.weight')
  config = configs.flashhead_dit(
      published, {k: tensors[k].shape for k in keys if k in tensors},
      (speech.config.layers, speech.config.channels),
  )  # pyformat: disable
  layout = layouts.Layout('flashhead-dit')
  part = _part(folder, tensors, layout, config, wan_dit.targets(config), {})
  return part, list(published['vae_stride'])


def _ltx_vae(folder: str) -> Part:
  config = ltx_layouts.config_of(
      reader.read_json(os.path.join(folder, 'config.json'))
  )
  tensors = reader.open_checkpoint(folder)
  if any('.resnets.' in key for key in tensors):
    layout = layouts.Layout('ltx-vae-diffusers')
  else:
    prefix = 'vae.' if any(key.startswith('vae.') for key in tensors) else ''
    layout = layouts.Layout('ltx-vae', {'prefix': prefix})
  return _part(
      folder, tensors, layout, config, ltx_layouts.targets(config),
      _values(config, variants.values_of('lite')['vae']),
  )


def _wan_vae_file(folder: str) -> Part:
  for name in _WAN_VAE_FILES:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      sizes = os.path.join(folder, 'vae_config.json')  # Of no release.
      config = configs.wan_vae_sizes(
          reader.read_json(sizes) if os.path.isfile(sizes) else _WAN_VAE_SIZES
      )
      return _wan_vae(path, config, layouts.Layout('wan-vae'))
  raise FileNotFoundError(f'{folder}: no {" or ".join(_WAN_VAE_FILES)}')


def _wan_vae(path: str, config, layout: layouts.Layout) -> Part:
  return _part(
      path, reader.open_checkpoint(path), layout, config,
      wan_layouts.targets(config),
      _values(config, variants.values_of('pro')['vae']),
  )


def _wan_parts(source, speech, values):
  """(VAE, DiT, stride) of Wan 2.1 text-to-video, either layout."""
  inner = os.path.join(source, 'transformer')
  diffusers = os.path.isdir(inner)
  folder = inner if diffusers else source
  published = reader.read_json(os.path.join(folder, 'config.json'))
  if diffusers:
    text = configs.wan_dit_diffusers(published)
    layout = layouts.Layout('wan-dit-diffusers')
    vae_folder = os.path.join(source, 'vae')
    sizes = reader.read_json(os.path.join(vae_folder, 'config.json'))
    config = configs.wan_vae_sizes(sizes)
    statistics = dict(
        latent_mean=sizes['latents_mean'], latent_std=sizes['latents_std']
    )
    vae = _wan_vae(
        vae_folder, config, layouts.Layout('wan-vae-diffusers', statistics)
    )
  else:
    text = configs.wan_dit_original(published)
    layout, vae = layouts.Layout('wan-dit'), _wan_vae_file(source)
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
  found = _part(folder, tensors, layout, text, wan_dit.targets(text), {})
  tensors = _talking_start(rules.unflatten(found.tensors), start)
  return vae, Part(values={}, config=start, tensors=tensors), list(_WAN_STRIDE)


def _talking_start(text_params, config: dit.DiTConfig) -> Mapping[str, Any]:
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
  logging.info(
      'kept: blocks/cross_attention of the text; from now on it reads the audio'
      ' tokens of its own latent frame'
  )
  logging.info('dropped: text_embedding, no text conditions this model')
  return rules.flatten(params)
