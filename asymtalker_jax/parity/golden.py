"""Golden files: inputs, random draws, weights and outputs of a reference.

One safetensors file with tensors `weights.*`, `in.*`, `noise.*` and `out.*` in
PyTorch layout, and one metadata entry `golden`: JSON with the reference, its
configuration, what each tensor means and the tolerance of each output.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import re
from typing import Any

import numpy as np
import safetensors

from asymtalker_jax.parity import formula

_POINTER = b'version https://git-lfs'
_SLICE = re.compile(r'\[([\s.,:\d]*::\d[\s.,:\d]*)\]')
# Of a file that names no tolerance: float32 rounding of a few operations.
_RELATIVE_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Golden:
  """Tensors of one file by prefix, its metadata, and how to run it.

  Attributes:
    tensors: by their name in the file.
    meta: its entry `golden`.
    dtype: 'float32' or 'bfloat16', of the networks' matrix products.
  """

  tensors: dict[str, np.ndarray]
  meta: dict[str, Any]
  dtype: str = 'float32'

  def at_precision(self, config: Any) -> Any:
    """A network's config with matrix products of `dtype`."""
    return dataclasses.replace(config, dtype=self.dtype)

  @property
  def config(self) -> dict[str, Any]:
    """Configuration of the reference."""
    return self.meta['config']

  @property
  def outputs(self) -> list[str]:
    """Names of the recorded outputs, without 'out.'."""
    return sorted(k[4:] for k in self.tensors if k.startswith('out.'))

  def weights(self, prefix: str = '') -> dict[str, np.ndarray]:
    """Reference state dict: tensors under 'weights.<prefix>'."""
    if 'formula' in self.meta:
      return formula.weights(self.meta['formula'], self.meta['tag'], prefix)
    start = 'weights.' + prefix
    return {
        k[len(start) :]: v
        for k, v in self.tensors.items()
        if k.startswith(start)
    }

  def atol(self, output: str) -> float:
    """Recommended absolute tolerance of `out.<output>` in float32."""
    noise = self.meta.get('noise', {}).get(output, {})
    if 'recommended_atol' in noise:
      return float(noise['recommended_atol'])
    return _RELATIVE_TOLERANCE * float(np.abs(self[f'out.{output}']).max())

  def meaning(self, name: str) -> str:
    """What the file says about a tensor, or about the group it is in."""
    text = str(self.meta.get('tensors', {}).get(name, {}).get('meaning', ''))
    groups = self.meta.get('tensor_groups', {})
    return f'{text} {groups.get(text.removeprefix("group "), "")}'

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self.tensors:
      raise ValueError(f'golden file: no tensor {name}')
    return self.tensors[name]


def load(path: str | os.PathLike) -> Golden:
  """Reads a golden file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a whole safetensors file, or not a golden one.
  """
  path = os.fspath(path)
  with open(path, 'rb') as file:
    if file.read(len(_POINTER)) == _POINTER:
      raise ValueError(
          f'{path}: a Git LFS pointer; fetch the file it stands for'
      )
  try:
    with safetensors.safe_open(path, 'np') as file:
      meta = (file.metadata() or {}).get('golden')
      tensors = {k: file.get_tensor(k) for k in file.keys()}
  except safetensors.SafetensorError as error:
    raise ValueError(
        f'{path}: not a whole safetensors file ({error})'
    ) from error
  try:
    meta = json.loads(meta or 'null')
  except json.JSONDecodeError as error:
    raise ValueError(
        f"{path}: metadata 'golden' is not JSON: {error}"
    ) from error
  if not isinstance(meta, Mapping) or not {'reference', 'config'} <= set(meta):
    raise ValueError(
        f"{path}: expected metadata 'golden' with reference and config, as in "
        'recorded outputs of a reference implementation'
    )
  return Golden(tensors=tensors, meta=dict(meta))


def as_stored(value: Any, shape: tuple[int, ...], meaning: str) -> np.ndarray:
  """`value` as the file keeps it: thinned out, or without a batch of one.

  Args:
    value: the whole output.
    shape: of the recorded tensor.
    meaning: may name the slice, as in 'stored [..., ::2, ::2]'; without a
      fitting one, even steps from the first entry are taken.

  Raises:
    ValueError: nothing that the meaning says leads to this shape.
  """
  value = np.asarray(value)
  if value.shape == shape:
    return value
  for text in _SLICE.findall(meaning):
    parts = [part.strip() for part in text.split(',')]
    index = tuple(... if part == '...' else _slice(part) for part in parts)
    axes = len(parts) - ('...' in parts)
    if axes <= value.ndim and value[index].size == np.prod(shape):
      return value[index].reshape(shape)
  if value.size == np.prod(shape) and _without_ones(value.shape, shape):
    return value.reshape(shape)
  sizes = list(zip(value.shape, shape))
  if value.ndim == len(shape) and all(n >= m > 0 for n, m in sizes):
    thin = value[tuple(slice(None, None, _step(n, m)) for n, m in sizes)]
    if thin.shape == shape:
      return thin
  raise ValueError(f'shape {value.shape} where {shape} is recorded')


def _slice(text: str) -> slice:
  """'::2' -> slice(None, None, 2)."""
  return slice(*(int(i) if i else None for i in text.split(':')))


def _step(size: int, kept: int) -> int:
  """The smallest step that keeps this many of `size` entries."""
  return next(n for n in range(1, size + 1) if -(-size // n) <= kept)


def _without_ones(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
  return [n for n in first if n > 1] == [n for n in second if n > 1]
