"""Safetensors files one tensor at a time: a full-size model never is in memory.

  [8 bytes: length of the header][header: JSON][tensors, back to back]

The header is checked to the last byte before any tensor is read, so that what
passes can be mapped. Written by hand because the library serialises a whole
file in memory and has no bfloat16 for NumPy.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import hashlib
import json
import math
import os
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
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_POINTER = b'version https://git-lfs'
_LONGEST_HEADER = 100_000_000
_BLOCK = 1 << 22  # elements that are brought into order at once


@dataclasses.dataclass(frozen=True)
class Tensor:
  """An array that is read, or computed, when NumPy asks for it.

  Attributes:
    shape: of the array.
    dtype: of the array.
    read: makes it.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    value = self.read()
    if dtype is not None and value.dtype != dtype:
      return value.astype(dtype)
    return value.copy() if copy else value


def dtype_name(dtype: Any) -> str:
  """'F32' and the like.

  Raises:
    ValueError: a type that these files do not hold.
  """
  if np.dtype(dtype) not in _NAMES:
    raise ValueError(
        f'type {np.dtype(dtype)}: expected one of {", ".join(map(str, _NAMES))}'
    )
  return _NAMES[np.dtype(dtype)]


def refuse_pointer(path: str) -> None:
  """Raises ValueError if a file is what Git LFS left in its place."""
  with open(path, 'rb') as file:
    if file.read(len(_POINTER)) == _POINTER:
      raise ValueError(
          f'{path}: a Git LFS pointer, not the file; run git lfs pull in it'
      )


def open_file(path: str) -> dict[str, Tensor]:
  """Tensors of a file, mapped when they are asked for.

  Raises:
    FileNotFoundError: no such file.
    ValueError: LFS pointers, damaged or truncated files, unknown types.
  """
  refuse_pointer(path)
  start, entries = _header(path)
  unknown = sorted({e['dtype'] for e in entries.values()} - set(DTYPES))
  if unknown:
    raise ValueError(
        f'{path}: tensors of type {", ".join(unknown)}; expected '
        f'{", ".join(DTYPES)}'
    )
  tensors, end = {}, 0
  for key, entry in sorted(entries.items(), key=lambda e: e[1]['span']):
    dtype, shape = DTYPES[entry['dtype']], entry['shape']
    if entry['span'] != (end, end + math.prod(shape) * dtype.itemsize):
      raise ValueError(
          f'{path}: damaged safetensors header: {key} {list(shape)} is at '
          f'bytes {list(entry["span"])}'
      )
    read = functools.partial(_map, path, dtype, start + end, shape)
    tensors[key], end = Tensor(shape, dtype, read), entry['span'][1]
  return tensors


def _header(path: str) -> tuple[int, dict[str, dict[str, Any]]]:
  """(offset of the data, entries {dtype, shape, span}) of a whole file."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
      raise ValueError(
          f'{path}: damaged or truncated, or not a safetensors file: {size} '
          'bytes'
      )
    text = file.read(length)
  try:
    entries = json.loads(text)
    entries.pop('__metadata__', None)
    entries = {key: _entry(value) for key, value in entries.items()}
  except (ValueError, AttributeError, LookupError, TypeError,
          RecursionError) as error:
    raise ValueError(f'{path}: damaged safetensors header') from error
  expected = 8 + length + max((e['span'][1] for e in entries.values()),
                              default=0)  # pyformat: disable
  if size != expected:
    raise ValueError(
        f'{path}: damaged or truncated: {size} bytes; expected {expected}'
    )
  return 8 + length, entries


def _entry(value: Mapping[str, Any]) -> dict[str, Any]:
  start, end = value['data_offsets']
  shape = tuple(value['shape'])
  if any(type(n) is not int or n < 0 for n in (start, end, *shape)):
    raise ValueError
  return dict(dtype=str(value['dtype']), shape=shape, span=(start, end))


def _map(path, dtype, offset, shape) -> np.ndarray:
  if not math.prod(shape):  # An empty map is an error.
    return np.zeros(shape, dtype)
  return np.memmap(path, dtype, 'r', offset, shape)


def write(
    path: str | os.PathLike,
    tensors: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> str:
  """Writes a file under a temporary name, tensor by tensor, then renames it.

  Args:
    path: in a folder that exists.
    tensors: name -> anything with shape, dtype and `__array__`, read once.
    metadata: of the header, strings.

  Returns:
    SHA-256 of the file.

  Raises:
    ValueError: a type that the format does not have, or what reading a tensor
      raised; nothing is left.
  """
  header, end = {'__metadata__': dict(metadata)} if metadata else {}, 0
  # The widest types first, then by name: every tensor is aligned.
  order = sorted(
      tensors, key=lambda key: (-tensors[key].dtype.itemsize, key)
  )
  for key in order:
    tensor, start = tensors[key], end
    end += math.prod(tensor.shape) * tensor.dtype.itemsize
    header[key] = dict(
        dtype=dtype_name(tensor.dtype), shape=list(tensor.shape),
        data_offsets=[start, end],
    )  # pyformat: disable
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  temporary, total = f'{path}.{os.getpid()}.part', hashlib.sha256()
  try:
    with open(temporary, 'wb') as file:
      for piece in (len(text).to_bytes(8, 'little'), text):
        file.write(piece)
        total.update(piece)
      for key in order:
        for piece in _pieces(np.asarray(tensors[key])):
          file.write(piece)
          total.update(piece)
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
  return total.hexdigest()


def _pieces(value: np.ndarray) -> Iterator[memoryview]:
  """Bytes of an array in C order, without a second copy of a large one."""
  if value.ndim and value.size > _BLOCK and not value.flags.c_contiguous:
    step = max(1, _BLOCK // max(1, value.size // len(value)))
    for start in range(0, len(value), step):
      yield from _pieces(np.ascontiguousarray(value[start : start + step]))
  elif value.size:
    flat = np.ascontiguousarray(value).reshape(-1)
    yield memoryview(flat.view(np.uint8))


def digest(path: str) -> str:
  """SHA-256 of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
