"""Checkpoints as lazy mappings, one tensor in memory at a time.

Safetensors, sharded or not, are read without any library; PyTorch pickles only
through `torch.load(weights_only=True)`, which runs no code of theirs.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
import glob
import json
import os
import pickle
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = {
    'F64': np.dtype(np.float64),
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
    'I64': np.dtype(np.int64),
}
_POINTER = b'version https://git-lfs'
_LONGEST_HEADER = 100_000_000


class Tensors(Mapping):
  """Key -> array, read when asked for."""

  def __init__(
      self, readers: Mapping[str, Callable[[], np.ndarray]], dtypes: set[str]
  ):
    self._readers = dict(readers)
    self.dtypes = dtypes

  def __getitem__(self, key: str) -> np.ndarray:
    return self._readers[key]()

  def __iter__(self) -> Iterator[str]:
    return iter(self._readers)

  def __len__(self) -> int:
    return len(self._readers)

  def shapes(self, *keys: str) -> dict[str, tuple[int, ...]]:
    """Shapes of those of `keys` that are there."""
    return {key: self[key].shape for key in keys if key in self}

  @property
  def widest(self) -> str:
    """Type that holds all tensors without loss, at most 'float32'."""
    if self.dtypes <= {'BF16'}:
      return 'bfloat16'
    return 'float16' if self.dtypes <= {'F16'} else 'float32'


def open_checkpoint(path: str) -> Tensors:
  """Tensors of a file, or of a folder's only (or indexed) safetensors.

  Raises:
    FileNotFoundError: no such file or folder, or a shard is missing.
    ValueError: LFS pointers, truncated files, unknown types, several files
      without an index, pickles that hold more than tensors.
  """
  if not os.path.isdir(path):
    _refuse_pointer(path)
    if path.endswith('.safetensors'):
      return _safetensors(path)
    return _pickle(path)
  indices = _named(path, '*.safetensors.index.json')
  if len(indices) == 1:
    return _sharded(indices[0])
  files = _named(path, '*.safetensors')
  if len(files) == 1:
    return open_checkpoint(files[0])
  if files or indices:
    names = [os.path.basename(name) for name in indices or files]
    raise ValueError(
        f'{path}: {", ".join(names)}: expected one .safetensors file or shards '
        'with one index'
    )
  raise FileNotFoundError(f'{path}: no .safetensors file in it')


def read_json(path: str) -> dict[str, Any]:
  """A JSON object.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a JSON object.
  """
  _refuse_pointer(path)
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from error
  if not isinstance(values, dict):
    raise ValueError(f'{path}: expected a JSON object')
  return values


def _named(folder: str, pattern: str) -> list[str]:
  return sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))


def _refuse_pointer(path: str) -> None:
  with open(path, 'rb') as file:
    if file.read(len(_POINTER)) == _POINTER:
      raise ValueError(
          f'{path}: a Git LFS pointer, not the file; run git lfs pull in it'
      )


def _header(path: str) -> tuple[int, dict[str, Any]]:
  """(offset of the data, entries) of a whole safetensors file."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
      raise ValueError(f'{path}: truncated, or not a safetensors file')
    try:
      entries = json.loads(file.read(length))
      entries.pop('__metadata__', None)
      ends = [entry['data_offsets'][1] for entry in entries.values()]
    except (ValueError, AttributeError, LookupError, TypeError) as error:
      raise ValueError(f'{path}: damaged safetensors header') from error
  expected = 8 + length + max(ends, default=0)
  if size != expected:
    raise ValueError(
        f'{path}: truncated or damaged: {size} bytes; expected {expected}'
    )
  return 8 + length, entries


def _safetensors(path: str) -> Tensors:
  start, entries = _header(path)
  unknown = sorted({e['dtype'] for e in entries.values()} - set(DTYPES))
  if unknown:
    raise ValueError(
        f'{path}: tensors of type {", ".join(unknown)}; expected '
        f'{", ".join(DTYPES)}'
    )

  def read(entry):
    dtype, shape = DTYPES[entry['dtype']], tuple(entry['shape'])
    if not np.prod(shape):  # An empty map is an error.
      return np.zeros(shape, dtype)
    return np.memmap(path, dtype, 'r', start + entry['data_offsets'][0], shape)

  return Tensors(
      {key: functools.partial(read, e) for key, e in entries.items()},
      {e['dtype'] for e in entries.values()},
  )


def _sharded(index: str) -> Tensors:
  folder, wanted = os.path.dirname(index), read_json(index).get('weight_map')
  if not isinstance(wanted, dict) or not wanted:
    raise ValueError(f'{index}: no weight_map')
  names = sorted(set(wanted.values()))
  paths = {name: os.path.join(folder, name) for name in names}
  missing = [name for name, path in paths.items() if not os.path.isfile(path)]
  if missing:
    raise FileNotFoundError(f'{folder}: missing shards {", ".join(missing)}')
  shards = {name: open_checkpoint(path) for name, path in paths.items()}
  absent = [key for key, name in wanted.items() if key not in shards[name]]
  if absent:
    raise ValueError(f'{index}: not in the shards: {", ".join(absent)}')
  return Tensors(
      {
          key: functools.partial(shards[name].__getitem__, key)
          for key, name in wanted.items()
      },
      set().union(*(shard.dtypes for shard in shards.values())),
  )


def _pickle(path: str) -> Tensors:
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise ValueError(
        f"{path}: reading it needs PyTorch: pip install 'asymtalker_jax"
        "[convert]'"
    ) from error
  try:
    state = torch.load(path, map_location='cpu', weights_only=True)
  except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
    reason = str(error).strip().splitlines()[0] if str(error) else 'damaged'
    raise ValueError(
        f'{path}: not a plain PyTorch state dict ({reason})'
    ) from error
  if not isinstance(state, dict) or not all(
      isinstance(value, torch.Tensor) for value in state.values()
  ):
    raise ValueError(f'{path}: expected a dict of tensors')
  read = lambda value: value.detach().float().numpy()
  return Tensors(
      {key: functools.partial(read, value) for key, value in state.items()},
      {'BF16' if value.dtype == torch.bfloat16 else 'F32'
       for value in state.values()},
  )  # pyformat: disable
