"""One folder = one model: configuration and weights, without pickle.

  config.json           format, variant, model (values of `variants.build`),
                        sampler, SHA-256 of each weight file, and, of converted
                        weights, their origin
  vae.safetensors       3-D VAE
  dit.safetensors       student
  teacher.safetensors   teacher, optional, same shapes as the student
  audio.safetensors     audio encoder, only where it has weights
  unused.safetensors    tensors of the origin that no network reads, kept for
                        `asymtalker export`

Tensor names are parameter paths joined by '/'. Everything is checked against
the shapes of the networks before use. `random:VARIANT` is a bundle of any
variant's size with random weights, made in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import math
import os
import tempfile
from typing import Any

import jax
import numpy as np

from asymtalker_jax import files
from asymtalker_jax import sampler_values
from asymtalker_jax import tensor_file
from asymtalker_jax import types
from asymtalker_jax.models import random_weights
from asymtalker_jax.models import variants

FORMAT = 1
PARTS = ('vae', 'dit', 'teacher', 'audio')
PRETRAINED = os.path.join(os.path.dirname(__file__), 'pretrained')
RANDOM = 'random:'
_CONFIG_KEYS = {'format', 'variant', 'model', 'sampler', 'sha256'}
_UNUSED = 'unused'
_EXACT = ('latent_mean', 'latent_std')  # Few numbers that move all others.
STORED = ('float32', 'float16', 'bfloat16')
_ALIGNED = 64
_LISTED = 8  # tensors that an error names before it counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
  """Where converted weights come from, as `asymtalker_jax.convert` knows it.

  Attributes:
    record: plain values, stored in config.json.
    unused: 'part/key' -> tensor of the origin that no network reads.
  """

  record: dict[str, Any]
  unused: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
  """A model that is ready to use.

  Attributes:
    name: as it was asked for.
    config: contents of config.json.
    networks: built from config['model'].
    params: part -> float32 parameters, for the parts that were asked for;
      from `open_bundle` in their stored type, and read when NumPy asks.
    origin: of converted weights, else None.
  """

  name: str
  config: dict[str, Any]
  networks: variants.Networks
  params: dict[str, types.Params]
  origin: Origin | None = None


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
    ValueError: random weights of an unknown variant.
  """
  name = os.fspath(name)
  if name.startswith(RANDOM):
    networks = variants.build(variants.values_of(name.removeprefix(RANDOM)))
    return [p for p, shapes in _expected_shapes(networks, PARTS).items()
            if shapes]  # pyformat: disable
  folder = _find(name)
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
    dtype: str | None = 'float32',
    origin: Origin | None = None,
) -> None:
  """Writes a bundle; config.json comes last, so a bundle with it is whole.

  Args:
    folder: created if needed; files of an older bundle are replaced when all
      of the new one are written.
    variant: name of the sizes, for people.
    model: values for `variants.build`.
    params: part -> parameters, read one by one; empty parts are left out.
    sampler: few-step sampler of the student, what differs from
      `sampler_values.DEFAULTS`.
    dtype: of the stored weights, one of STORED; None for their own. The
      statistics of the latents always keep theirs.
    origin: of converted weights.

  Raises:
    ValueError: unknown parts or dtype, or parameters that do not fit `model`.
    OSError: the folder cannot be written.
  """
  if dtype not in (*STORED, None):
    raise ValueError(f'dtype {dtype!r}: expected one of {STORED}')
  folder = os.fspath(folder)
  sampler = sampler_values.check(
      folder, sampler_values.DEFAULTS | (sampler or {})
  )
  expected = _expected_shapes(variants.build(model), tuple(params))
  os.makedirs(folder, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix='.new-', dir=folder) as fresh:
    sums = {}
    for part, tree in params.items():
      tensors = {path: _to_store(path, leaf, dtype)
                 for path, leaf in flatten(tree)}  # pyformat: disable
      _check(f'{folder}: {part}', tensors, expected[part])
      if tensors:
        sums[part] = tensor_file.write(_file(fresh, part), tensors)
    if origin and origin.unused:
      sums[_UNUSED] = tensor_file.write(_file(fresh, _UNUSED), origin.unused)
    for part in sums:
      os.replace(_file(fresh, part), _file(folder, part))
    config = dict(format=FORMAT, variant=variant, model=model,
                  sampler=sampler, sha256=sums)  # pyformat: disable
    if origin:
      config['origin'] = origin.record
    text = json.dumps(config, indent=2) + '\n'
    files.write(os.path.join(folder, 'config.json'), text.encode())
  for part in (*PARTS, _UNUSED):
    if part not in sums and os.path.isfile(_file(folder, part)):
      os.remove(_file(folder, part))  # Of the older bundle.


def load(
    name: str | os.PathLike, parts: Sequence[str] = ('vae', 'dit', 'audio')
) -> Bundle:
  """Reads and checks a bundle.

  Args:
    name: a bundled model (`names()`), a folder, or 'random:VARIANT'.
    parts: what to read, from PARTS.

  Returns:
    The bundle; half-precision tensors arrive as float32.

  Raises:
    FileNotFoundError: no such bundle, or a part is not in it.
    ValueError: damaged files, unknown config, or missing, extra, wrongly shaped
      or non-finite tensors, all listed in one line.
  """
  stored = open_bundle(name, parts)
  origin = stored.origin
  if origin:  # Small: what the networks read is not in it.
    unused = {key: np.array(tensor) for key, tensor in origin.unused.items()}
    origin = dataclasses.replace(origin, unused=unused)
  params = jax.tree.map(_copy, stored.params)
  return dataclasses.replace(stored, params=params, origin=origin)


def open_bundle(
    name: str | os.PathLike, parts: Sequence[str] | None = None
) -> Bundle:
  """As `load`, but parameters are only mapped, in their stored type.

  Args:
    name: as in `load`.
    parts: None for all that there are.
  """
  name = os.fspath(name)
  parts = tuple(parts_of(name) if parts is None else parts)
  if name.startswith(RANDOM):
    return _random(name, parts)
  folder = _find(name)
  config = _read_config(folder)
  try:
    networks = variants.build(config['model'])
    shapes = _expected_shapes(networks, parts)
  except (
      ValueError, TypeError, LookupError, AttributeError, ArithmeticError
  ) as error:  # pyformat: disable
    raise ValueError(
        f'{folder}/config.json: model does not describe a network'
        f' ({" ".join(str(error).split())})'
    ) from error
  params, problems = {}, []
  for part, expected in shapes.items():
    try:
      params[part] = _open_part(folder, part, expected, config['sha256'])
    except ValueError as error:
      problems.append(str(error))
  if problems:
    raise ValueError('; '.join(problems))
  return Bundle(
      name=name, config=config, networks=networks, params=params,
      origin=_origin(folder, config),
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


def _copy(leaf: Any) -> np.ndarray:
  """In float32: what is in use must not change or vanish with its file."""
  # So aligned, XLA on a CPU takes the array as it is; else it copies again.
  size = 4 * math.prod(leaf.shape)
  memory = np.empty(size + _ALIGNED, np.uint8)
  start = -memory.ctypes.data % _ALIGNED
  array = memory[start : start + size].view(np.float32).reshape(leaf.shape)
  array[...] = leaf
  return array


def _random(name: str, parts: Sequence[str]) -> Bundle:
  """Random weights, the same for the same variant."""
  variant = name.removeprefix(RANDOM)
  values = variants.values_of(variant)
  networks = variants.build(values)
  config = dict(format=FORMAT, variant=variant, model=values,
                sampler=dict(sampler_values.DEFAULTS), sha256={})

  def tensor(part, path, shape):
    read = functools.partial(
        random_weights.draw, path, shape, PARTS.index(part)
    )
    return tensor_file.Tensor(shape, np.dtype(np.float32), read)

  params = {
      part: unflatten({k: tensor(part, k, s.shape) for k, s in shapes.items()})
      for part, shapes in _expected_shapes(networks, parts).items()
  }
  return Bundle(name=name, config=config, networks=networks, params=params)


def _file(folder: str, part: str) -> str:
  return os.path.join(folder, f'{part}.safetensors')


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
  if not isinstance(config, dict) or set(config) - {'origin'} != _CONFIG_KEYS:
    found = sorted(config) if isinstance(config, dict) else type(config)
    raise ValueError(
        f'{path}: keys {found}; expected {sorted(_CONFIG_KEYS)}'
    )
  if config['format'] != FORMAT:
    raise ValueError(
        f'{path}: format {config["format"]!r}; this version reads {FORMAT}'
    )
  for key in ('model', 'sampler', 'sha256', 'origin'):
    if not isinstance(config.get(key, {}), dict):
      raise ValueError(f'{path}: {key} is not an object')
  # Bundles from before there were the others were made without.
  old = {k: v for k, v in sampler_values.DEFAULTS.items()
         if k not in ('timesteps', 'shift')}
  config['sampler'] = sampler_values.check(path, old | config['sampler'])
  return config


def _origin(folder: str, config: dict[str, Any]) -> Origin | None:
  if 'origin' not in config:
    return None
  unused, path = {}, _file(folder, _UNUSED)
  if _UNUSED in config['sha256']:
    _check_digest(path, config['sha256'][_UNUSED])
    unused = tensor_file.open_file(path)
  return Origin(record=config['origin'], unused=unused)


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


def _open_part(
    folder: str,
    part: str,
    expected: dict[str, jax.ShapeDtypeStruct],
    sums: dict[str, str],
) -> types.Params:
  if not expected:  # An audio encoder without weights has no file.
    return {}
  path = _file(folder, part)
  if not os.path.isfile(path):
    raise FileNotFoundError(f'{path}: no such file; the bundle has no {part}')
  tensors = tensor_file.open_file(path)
  whole = sorted({str(t.dtype) for t in tensors.values()
                  if t.dtype.kind in 'iub'})  # pyformat: disable
  if whole:
    raise ValueError(
        f'{path}: tensors of type {", ".join(whole)}; expected one of {STORED}'
    )
  infinite = [k for k, v in tensors.items() if not _finite(np.asarray(v))]
  _check(path, tensors, expected, infinite)
  if part in sums:
    _check_digest(path, sums[part])
  return unflatten(tensors)


def _check_digest(path: str, expected: str) -> None:
  if tensor_file.digest(path) != expected:
    raise ValueError(
        f'{path}: differs from the SHA-256 in config.json; expected the file'
        ' that was saved with it (damaged copy?)'
    )


def _to_store(path: str, leaf: Any, dtype: str | None) -> tensor_file.Tensor:
  """The leaf in the stored type, checked when it is written."""
  leaf = leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
  stored = np.dtype(leaf.dtype if path in _EXACT else dtype or leaf.dtype)

  def read():
    value = np.asarray(leaf)
    if not _finite(value):
      raise ValueError(f'{path} is not finite: expected trained weights')
    return value.astype(stored, copy=False)

  return tensor_file.Tensor(tuple(leaf.shape), stored, read)


def _finite(value: np.ndarray) -> bool:
  rows = value if value.ndim else value[None]
  return all(np.isfinite(row).all() for row in rows)


def _check(
    where: str,
    tensors: Mapping[str, Any],
    expected: dict[str, jax.ShapeDtypeStruct],
    infinite: Sequence[str] = (),
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
      'not finite': sorted(infinite),
  }
  found = [
      f'{len(items)} {kind}: {", ".join(items[:_LISTED])}'
      + (', ...' if len(items) > _LISTED else '')
      for kind, items in problems.items()
      if items
  ]
  if found:
    raise ValueError(f'{where}: tensors do not fit; ' + '; '.join(found))
