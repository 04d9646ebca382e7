"""A bundle in the files of the original code: `release.py` backwards.

  flashhead      Model_Pro or Model_Lite (teacher/ for a teacher of Pro's
                 geometry), VAE_Wan/Wan2.1_VAE.pth or VAE_LTX/, and
                 wav2vec2-base-960h/
  diffusers-vae  config.json and diffusion_pytorch_model.safetensors

Converted weights come back bit for bit: names, shapes, types, values and what
no network reads. What was trained here has no such origin of its own; it gets
the published layout, and zeros for tensors that are never read.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
from typing import Any

import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import tensor_file
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import layouts
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import release
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae as wan_layouts
from asymtalker_jax.convert import wav2vec2 as speech_layouts
from asymtalker_jax.models import wan_vae
from asymtalker_jax.models import wav2vec2

WEIGHTS = 'diffusion_pytorch_model.safetensors'
# Relative path -> JSON object, or tensors.
Files = dict[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Part:
  """One network of a bundle on its way out.

  Attributes:
    config: of the network.
    params: '/'-joined path -> tensor.
    record: of its origin, {} without one.
    unused: tensors of its origin that it does not read.
    dtype: type to write, None for that of the origin, else the stored one.
  """

  config: Any
  params: Mapping[str, Any]
  record: Mapping[str, Any]
  unused: Mapping[str, Any]
  dtype: str | None

  def is_from(self, *names: str) -> bool:
    """Whether its origin has one of these layouts."""
    return self.record.get('layout') in names

  def json(self, name: str, otherwise: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON file of its origin."""
    return self.record.get('json', {}).get(name, otherwise)

  def tensors(self, layout: layouts.Layout | None = None) -> dict[str, Any]:
    """Checkpoint key -> tensor, in the layout of the origin by default."""
    own = layout is None
    if own:
      layout = layouts.Layout(self.record['layout'], self.record['options'])
    found = rules.plan_export(
        rules.unflatten(self.params), layout.table(self.config)
    )
    others = self.record.get('other_dtypes', {}) if own else {}
    usual = self.record.get('dtype')
    return {
        key: _as_type(tensor, self.dtype, others.get(key, usual))
        for key, tensor in found.items()
    }


def _as_type(tensor, asked: str | None, recorded: str | None):
  dtype = tensor.dtype
  if asked or recorded:
    dtype = np.dtype(asked) if asked else tensor_file.DTYPES[recorded]
  if dtype == tensor.dtype:
    return tensor
  return tensor_file.Tensor(
      tensor.shape, dtype, lambda: np.asarray(tensor).astype(dtype)
  )


def files(
    source: bundle_lib.Bundle, kind: str, dtype: str | None = None
) -> Files:
  """What to write for a bundle; nothing is read yet.

  Args:
    source: from `bundle.open_bundle`.
    kind: 'flashhead' or 'diffusers-vae'.
    dtype: of the weights, one of `bundle.STORED`; None for that of the origin,
      without one as they are stored.

  Raises:
    ValueError: networks that the original code does not have.
  """
  if kind not in FORMATS:
    raise ValueError(f'format {kind!r}: expected one of {", ".join(FORMATS)}')
  return FORMATS[kind](source, dtype)


def _part(source, name: str, config, dtype) -> _Part:
  if name not in source.params:
    raise ValueError(
        f'{source.name}: no {name} in it; expected it beside '
        f'{", ".join(source.params)}'
    )
  origin = source.origin or bundle_lib.Origin(record={}, unused={})
  of = 'dit' if name == 'teacher' else name  # The student's twin.
  return _Part(
      config=config,
      params=rules.flatten(source.params[name]),
      record=origin.record.get('parts', {}).get(of, {}),
      unused={
          key.removeprefix(f'{of}/'): tensor
          for key, tensor in origin.unused.items()
          if key.startswith(f'{of}/')
      },
      dtype=dtype,
  )  # pyformat: disable


def _flashhead(source: bundle_lib.Bundle, dtype: str | None) -> Files:
  """Folder of SoulX-FlashHead-1_3B, and of wav2vec2."""
  networks = source.networks
  if not isinstance(networks.audio, wav2vec2.Wav2Vec2Encoder):
    raise ValueError(
        f'{source.name}: audio encoder {networks.values["audio"]["kind"]}; the '
        'original code has wav2vec2 only'
    )
  if networks.values['reference_encoding'] != 'temporal':
    raise ValueError(
        f'{source.name}: reference_encoding '
        f'{networks.values["reference_encoding"]!r}; the original code has '
        "'temporal' only"
    )
  pro = isinstance(networks.vae, wan_vae.WanVae)
  found = {}
  found |= _dit(source, 'dit', 'Model_Pro' if pro else 'Model_Lite', dtype)
  if pro and 'teacher' in source.params:  # It has none beside Lite.
    found |= _dit(source, 'teacher', 'teacher', dtype)
  vae = _part(source, 'vae', networks.vae.config, dtype)
  if pro:
    found[f'VAE_Wan/{release.WAN_VAE}'] = _wan_vae_original(vae)
  else:
    found |= {f'VAE_LTX/{k}': v for k, v in _ltx_vae(vae).items()}
  audio = _part(source, 'audio', networks.audio.config, dtype)
  found |= {f'{release.SPEECH}/{k}': v for k, v in _speech(audio).items()}
  return found


def _dit(source, name: str, folder: str, dtype: str | None) -> Files:
  config = source.networks.dit.config
  part = _part(source, name, config, dtype)
  published = flashhead.published_config(
      config, source.networks.chunk.spatial_stride
  )
  recorded = part.json('config.json', {})
  # A network of other sizes may have been trained on the same latents.
  if part.is_from('flashhead-dit') and all(
      recorded.get(key, published[key]) == published[key]
      for key in flashhead.SIZES
  ):
    published, tensors, unused = recorded, part.tensors(), part.unused
  else:
    tensors = part.tensors(layouts.Layout('flashhead-dit'))
    like = next(iter(tensors.values())).dtype
    unused = flashhead.unused_zeros(config, like)
  return {f'{folder}/config.json': published,
          f'{folder}/{WEIGHTS}': tensors | unused}  # pyformat: disable


def _wan_vae_original(part: _Part) -> Mapping[str, Any]:
  if part.is_from('wan-vae'):
    return part.tensors() | part.unused
  configs.wan_vae_diffusers(part.config, [], [])  # Raises.
  return part.tensors(layouts.Layout('wan-vae'))


def _wan_vae_diffusers(part: _Part) -> Files:
  if part.is_from('wan-vae-diffusers'):
    tensors = part.tensors() | part.unused
    return {'config.json': part.json('config.json', {}), WEIGHTS: tensors}
  statistics = {
      name: np.asarray(part.params[name], np.float32).tolist()
      for name in ('latent_mean', 'latent_std')
  }
  published = configs.wan_vae_diffusers(part.config, **statistics)
  layout = layouts.Layout('wan-vae-diffusers', statistics)
  return {'config.json': published, WEIGHTS: part.tensors(layout)}


def _ltx_vae(part: _Part, diffusers: bool = False) -> Files:
  """Either layout, as the original code reads both; diffusers only one."""
  if part.is_from('ltx-vae-diffusers') or (
      part.is_from('ltx-vae') and not diffusers
  ):
    return {'config.json': part.json('config.json', {}),
            WEIGHTS: part.tensors() | part.unused}  # pyformat: disable
  published = ltx_layouts.diffusers_config(part.config)
  tensors = part.tensors(layouts.Layout('ltx-vae-diffusers'))
  return {'config.json': published, WEIGHTS: tensors}


def _speech(part: _Part) -> Files:
  published = speech_layouts.published_configs(part.config)
  found = {name: part.json(name, values) for name, values in published.items()}
  own = part.is_from('wav2vec2')
  tensors = part.tensors(None if own else layouts.Layout('wav2vec2'))
  return found | {'model.safetensors': tensors | part.unused}


def _diffusers_vae(source: bundle_lib.Bundle, dtype: str | None) -> Files:
  part = _part(source, 'vae', source.networks.vae.config, dtype)
  if isinstance(source.networks.vae, wan_vae.WanVae):
    return _wan_vae_diffusers(part)
  return _ltx_vae(part, diffusers=True)


FORMATS = {'flashhead': _flashhead, 'diffusers-vae': _diffusers_vae}


def write(folder: str, found: Files) -> None:
  """Writes files one tensor at a time.

  Args:
    folder: that exists.
    found: of `files`.

  Raises:
    ValueError: a .pth is wanted and PyTorch is missing.
    OSError: the folder cannot be written.
  """
  if any(name.endswith('.pth') for name in found):
    _torch()  # Before the first byte.
  for name, content in found.items():
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if name.endswith('.json'):
      with open(path, 'w', encoding='utf-8') as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + '\n')
    elif name.endswith('.pth'):
      _write_pickle(path, content)
    else:  # The metadata that transformers and diffusers ask for.
      tensor_file.write(path, content, {'format': 'pt'})


def _torch():
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise ValueError(
        f'writing {release.WAN_VAE} needs PyTorch: pip install -e'
        " '.[convert]'"
    ) from error
  return torch


def _write_pickle(path: str, tensors: Mapping[str, Any]) -> None:
  torch = _torch()

  def tensor(value):
    value = np.array(value)
    if value.dtype.name == 'bfloat16':  # NumPy and PyTorch share no name.
      return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)

  torch.save({key: tensor(value) for key, value in tensors.items()}, path)
