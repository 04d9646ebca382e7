"""One folder = one model: configuration and weights, without pickle.

  config.json           format, variant, model (values of `variants.build`),
                        sampler, SHA-256 of each weight file
  vae.safetensors       3-D VAE
  dit.safetensors       student
  teacher.safetensors   teacher, optional, same shapes as the student
  audio.safetensors     audio encoder, only where it has weights

Tensor names are parameter paths joined by '/'. Everything is checked against
the shapes of the networks before use.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any

import jax
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from asymtalker_jax import types
from asymtalker_jax.models import variants

FORMAT = 1
PARTS = ('vae', 'dit', 'teacher', 'audio')
PRETRAINED = os.path.join(os.path.dirname(__file__), 'pretrained')
SAMPLER = {'timesteps': [1000.0, 750.0, 500.0, 250.0], 'shift': 5.0}
_CONFIG_KEYS = {'format', 'variant', 'model', 'sampler', 'sha256'}
_DTYPES = {
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': ml_dtypes.bfloat16,
}
STORED = ('float32', 'float16', 'bfloat16')
_LISTED = 8  # tensors that an error names before it counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
  """A model that is ready to use.

  Attributes:
    name: as it was asked for.
    config: contents of config.json.
    networks: built from config['model'].
    params: part -> float32 parameters, for the parts that were asked for.
  """

  name: str
  config: dict[str, Any]
  networks: variants.Networks
  params: dict[str, types.Params]


def names() -> list[str]:
  """Bundles that come with the package."""
  if not os.path.isdir(PRETRAINED):
    return []
  return sorted(
      name
      for name in os.listdir(PRETRAINED)
      if os.path.exists(os.path.join(PRETRAINED, name, 'config.json'))
  )


def parts_of(name: str | os.PathLike) -> list[str]:
  """Parts that a bundle holds, of those in PARTS.

  Raises:
    FileNotFoundError: no such bundle.
  """
  folder = _find(os.fspath(name))
  return [
      part
      for part in PARTS
      if os.path.isfile(os.path.join(folder, f'{part}.safetensors'))
  ]


def save(
    folder: str | os.PathLike,
    *,
    variant: str,
    model: dict[str, Any],
    params: dict[str, types.Params],
    sampler: dict[str, Any] | None = None,
    dtype: str = 'float32',
) -> None:
  """Writes a bundle; config.json comes last, so a bundle with it is whole.

  Args:
    folder: created if needed; files of an older bundle are replaced.
    variant: name of the sizes, for people.
    model: values for `variants.build`.
    params: part -> parameters; empty parts are left out.
    sampler: few-step sampler of the student {'timesteps', 'shift'}.
    dtype: of the stored weights, one of STORED.

  Raises:
    ValueError: unknown parts or dtype, or parameters that do not fit `model`.
    OSError: the folder cannot be written.
  """
  unknown = set(params) - set(PARTS)
  if unknown:
    raise ValueError(f'parts {sorted(unknown)}: expected some of {PARTS}')
  if dtype not in STORED:
    raise ValueError(f'dtype {dtype!r}: expected one of {STORED}')
  stored = np.dtype(dtype)  # ml_dtypes knows bfloat16.
  folder = os.fspath(folder)
  expected = _expected_shapes(variants.build(model), tuple(params))
  os.makedirs(folder, exist_ok=True)
  sums = {}
  for part, tree in params.items():
    tensors = {k: np.asarray(v) for k, v in flatten(tree)}
    _check(f'{folder}: {part}', tensors, expected[part])
    if tensors:
      content = safetensors.numpy.save(
          {k: np.ascontiguousarray(v, stored) for k, v in tensors.items()}
      )
      sums[part] = hashlib.sha256(content).hexdigest()
      _write(os.path.join(folder, f'{part}.safetensors'), content)
  config = {
      'format': FORMAT,
      'variant': variant,
      'model': model,
      'sampler': sampler or SAMPLER,
      'sha256': sums,
  }
  text = json.dumps(config, indent=2) + '\n'
  _write(os.path.join(folder, 'config.json'), text.encode())
  for part in parts_of(folder):
    if part not in sums:  # Of the older bundle.
      os.remove(os.path.join(folder, f'{part}.safetensors'))


def load(
    name: str | os.PathLike, parts: Sequence[str] = ('vae', 'dit', 'audio')
) -> Bundle:
  """Reads and checks a bundle.

  Args:
    name: a bundled model (`names()`) or a folder.
    parts: what to read, from PARTS.

  Returns:
    The bundle; half-precision tensors arrive as float32.

  Raises:
    FileNotFoundError: no such bundle, or a part is not in it.
    ValueError: damaged files, unknown config, or missing, extra, wrongly shaped
      or non-finite tensors, all listed in one line.
  """
  folder = _find(os.fspath(name))
  config = _read_config(folder)
  try:
    networks = variants.build(config['model'])
  except (TypeError, KeyError, AttributeError) as error:
    raise ValueError(
        f'{folder}/config.json: model does not describe a network ({error})'
    ) from error
  params, problems = {}, []
  for part, expected in _expected_shapes(networks, tuple(parts)).items():
    try:
      params[part] = _load_part(folder, part, expected, config['sha256'])
    except ValueError as error:
      problems.append(str(error))
  if problems:
    raise ValueError('; '.join(problems))
  return Bundle(
      name=os.fspath(name), config=config, networks=networks, params=params
  )


def flatten(
    tree: types.Params, prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  """Yields ('a/b/c', leaf) of a nested dictionary, sorted by name."""
  for key in sorted(tree):
    path = f'{prefix}/{key}' if prefix else key
    if isinstance(tree[key], dict):
      yield from flatten(tree[key], path)
    else:
      yield path, tree[key]


def unflatten(tensors: dict[str, Any]) -> types.Params:
  """Inverse of `flatten`."""
  tree = {}
  for path, leaf in tensors.items():
    *parents, last = path.split('/')
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = leaf
  return tree


def _find(name: str) -> str:
  """Folder of a bundle that is asked for by name or path."""
  bundled = os.path.join(PRETRAINED, name)
  for folder in (bundled, name):
    if os.path.isfile(os.path.join(folder, 'config.json')):
      return folder
  raise FileNotFoundError(
      f'bundle {name}: no config.json there; expected a bundle folder or one of'
      f' {names()}'
  )


def _read_config(folder: str) -> dict[str, Any]:
  path = os.path.join(folder, 'config.json')
  try:
    with open(path, encoding='utf-8') as file:
      config = json.load(file)
  except ValueError as error:  # Bad JSON and bad UTF-8 alike.
    raise ValueError(f'{path}: not JSON ({error})') from error
  if not isinstance(config, dict) or set(config) != _CONFIG_KEYS:
    found = sorted(config) if isinstance(config, dict) else type(config)
    raise ValueError(
        f'{path}: keys {found}; expected {sorted(_CONFIG_KEYS)}'
    )
  if config['format'] != FORMAT:
    raise ValueError(
        f'{path}: format {config["format"]!r}; this version reads {FORMAT}'
    )
  for key in ('model', 'sampler', 'sha256'):
    if not isinstance(config[key], dict):
      raise ValueError(f'{path}: {key} is not an object')
  if set(config['sampler']) != set(SAMPLER):
    raise ValueError(
        f'{path}: sampler has {sorted(config["sampler"])}; expected'
        f' {sorted(SAMPLER)}'
    )
  return config


def _expected_shapes(
    networks: variants.Networks, parts: Sequence[str]
) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
  """Flat shapes of each part."""
  unknown = set(parts) - set(PARTS)
  if unknown:
    raise ValueError(f'parts {sorted(unknown)}: expected some of {PARTS}')
  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  shapes['teacher'] = shapes['dit']
  return {part: dict(flatten(shapes[part])) for part in parts}


def _load_part(
    folder: str,
    part: str,
    expected: dict[str, jax.ShapeDtypeStruct],
    sums: dict[str, str],
) -> types.Params:
  if not expected:  # An audio encoder without weights has no file.
    return {}
  path = os.path.join(folder, f'{part}.safetensors')
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such file; the bundle has no {part}')
  with open(path, 'rb') as file:
    content = file.read()
  tensors = _parse(path, content)
  _check(path, tensors, expected)
  if part in sums and hashlib.sha256(content).hexdigest() != sums[part]:
    raise ValueError(
        f'{path}: differs from the SHA-256 in config.json; expected the file'
        ' that was saved with it (damaged copy?)'
    )
  return unflatten({k: v.astype(np.float32) for k, v in tensors.items()})


def _parse(path: str, content: bytes) -> dict[str, np.ndarray]:
  """Tensors of a safetensors file, bfloat16 included."""
  try:
    entries = safetensors.deserialize(content)
  except safetensors.SafetensorError as error:
    raise ValueError(
        f'{path}: damaged or truncated safetensors file ({error})'
    ) from error
  tensors = {}
  for name, entry in entries:
    if entry['dtype'] not in _DTYPES:
      raise ValueError(
          f'{path}: {name} has type {entry["dtype"]}; expected one of'
          f' {sorted(_DTYPES)}'
      )
    values = np.frombuffer(entry['data'], _DTYPES[entry['dtype']])
    tensors[name] = values.reshape(entry['shape'])
  return tensors


def _check(
    where: str,
    tensors: dict[str, np.ndarray],
    expected: dict[str, jax.ShapeDtypeStruct],
) -> None:
  """Raises one ValueError that lists everything that does not fit."""
  both = sorted(set(tensors) & set(expected))
  problems = {
      'missing': sorted(set(expected) - set(tensors)),
      'extra': sorted(set(tensors) - set(expected)),
      'wrong shape': [
          f'{k} {list(tensors[k].shape)} (expected {list(expected[k].shape)})'
          for k in both
          if tuple(tensors[k].shape) != tuple(expected[k].shape)
      ],
      'not finite': [
          k for k in both
          if not np.isfinite(tensors[k].astype(np.float32)).all()
      ],
  }
  found = [
      f'{len(items)} {kind}: {", ".join(items[:_LISTED])}'
      + (', ...' if len(items) > _LISTED else '')
      for kind, items in problems.items()
      if items
  ]
  if found:
    raise ValueError(f'{where}: tensors do not fit; ' + '; '.join(found))


def _write(path: str, content: bytes) -> None:
  """Writes a file under a temporary name, then renames it."""
  temporary = f'{path}.{os.getpid()}.part'
  try:
    with open(temporary, 'wb') as file:
      file.write(content)
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
