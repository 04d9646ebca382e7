"""Checkpoints as lazy mappings, one tensor in memory at a time.

Safetensors, sharded or not, are read without any library; PyTorch pickles only
through `torch.load(weights_only=True)`, which runs no code of theirs.
"""

import functools
import glob
import json
import os
import pickle
from typing import Any

import numpy as np

from asymtalker_jax import tensor_file

# Of a folder without safetensors: how older releases of wav2vec2 come.
_PICKLE = 'pytorch_model.bin'
# What torch.load raises for files that are cut, flipped or hostile.
_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError,
    LookupError, AttributeError, AssertionError, OverflowError, MemoryError,
)  # pyformat: disable
Tensors = dict[str, tensor_file.Tensor]


def open_checkpoint(path: str) -> Tensors:
  """Tensors of a file, or of a folder's only (or indexed) safetensors.

  Raises:
    FileNotFoundError: no such file or folder, or a shard is missing.
    ValueError: LFS pointers, truncated files, unknown types, several files
      without an index, pickles that hold more than tensors.
  """
  if not os.path.isdir(path):
    if path.endswith('.safetensors'):
      return tensor_file.open_file(path)
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
  pickled = os.path.join(path, _PICKLE)
  if os.path.isfile(pickled):
    return _pickle(pickled)
  raise FileNotFoundError(f'{path}: no .safetensors file in it')


def read_json(path: str) -> dict[str, Any]:
  """A JSON object.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a JSON object.
  """
  tensor_file.refuse_pointer(path)
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


def _sharded(index: str) -> Tensors:
  folder, wanted = os.path.dirname(index), read_json(index).get('weight_map')
  if not isinstance(wanted, dict) or not wanted or not all(
      isinstance(name, str) for name in wanted.values()
  ):
    raise ValueError(f'{index}: no weight_map of file names')
  names = sorted(set(wanted.values()))
  paths = {name: os.path.join(folder, name) for name in names}
  missing = [name for name, path in paths.items() if not os.path.isfile(path)]
  if missing:
    raise FileNotFoundError(f'{folder}: missing shards {", ".join(missing)}')
  shards = {name: tensor_file.open_file(path) for name, path in paths.items()}
  absent = [key for key, name in wanted.items() if key not in shards[name]]
  surplus = [
      key for name, shard in shards.items() for key in shard
      if wanted.get(key) != name
  ]  # pyformat: disable
  if absent or surplus:
    raise ValueError(
        f'{index}: not in the shards: {", ".join(absent) or "-"}; in the '
        f'shards only: {", ".join(surplus) or "-"}'
    )
  return {key: shards[name][key] for key, name in wanted.items()}


def _pickle(path: str) -> Tensors:
  tensor_file.refuse_pointer(path)
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ImportError as error:
    raise ValueError(
        f"{path}: reading it needs PyTorch: pip install -e '.[convert]'"
    ) from error
  try:
    state = torch.load(path, map_location='cpu', weights_only=True)
  except _DAMAGED as error:
    reason = str(error).strip().splitlines()[0] if str(error) else 'damaged'
    raise ValueError(
        f'{path}: not a plain PyTorch state dict ({reason})'
    ) from error
  if not isinstance(state, dict) or not all(
      isinstance(key, str) and isinstance(value, torch.Tensor)
      for key, value in state.items()
  ):
    raise ValueError(f'{path}: expected a dict of tensors')
  known = {dtype.name: dtype for dtype in tensor_file.DTYPES.values()}
  name_of = lambda value: str(value.dtype).removeprefix('torch.')
  unknown = sorted({name_of(v) for v in state.values()} - set(known))
  if unknown:
    raise ValueError(
        f'{path}: tensors of type {", ".join(unknown)}; expected '
        f'{", ".join(known)}'
    )

  def read(value):
    value = value.detach().contiguous()
    if value.dtype == torch.bfloat16:  # NumPy has no word for it.
      return value.view(torch.int16).numpy().view(known['bfloat16'])
    return value.numpy()

  return {
      key: tensor_file.Tensor(
          tuple(value.shape), known[name_of(value)],
          functools.partial(read, value),
      )
      for key, value in state.items()
  }  # pyformat: disable
