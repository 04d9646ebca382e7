"""Tensors that golden files define by a formula instead of storing them."""

from collections.abc import Mapping
from typing import Any
import zlib

import numpy as np

_BLOCK = 1 << 22  # Elements at once, so that temporaries stay in cache.
INPUT_SCALE = 1.7320508  # Unit variance.


def hash_unit(name: str, count: int) -> np.ndarray:
  """[count] float64 multiples of 2^-23 in [-1, 1), the same everywhere."""
  out = np.empty(count)
  seed = np.uint64(zlib.crc32(name.encode())) << np.uint64(32)
  for start in range(0, count, _BLOCK):
    z = np.arange(start, min(start + _BLOCK, count), dtype=np.uint64)
    z += seed
    z += np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    out[start : start + len(z)] = (z >> np.uint64(40)) * 2.0**-23 - 1.0
  return out


def hash_tensor(
    name: str, shape: tuple[int, ...], scale: float, offset: float = 0.0
) -> np.ndarray:
  """float32 tensor of the formula in the golden files' README."""
  unit = hash_unit(name, int(np.prod(shape))).astype(np.float32)
  unit *= np.float32(scale)
  if offset:
    unit += np.float32(offset)
  return unit.reshape(shape)


def weights(
    described: Mapping[str, Any], tag: str, prefix: str = ''
) -> dict[str, np.ndarray]:
  """State dict of a file's entry `formula`, keys under `prefix` only.

  Args:
    described: 'shapes' and 'specs' (scale, offset), by key.
    tag: goes before every key.
    prefix: removed from the keys.
  """
  return {
      key[len(prefix) :]: hash_tensor(
          tag + key, tuple(shape), *described['specs'][key]
      )
      for key, shape in described['shapes'].items()
      if key.startswith(prefix)
  }


def probe(name: str, value: np.ndarray) -> np.ndarray:
  """[mean, unbiased std, random projection] of a tensor, float64."""
  x = np.asarray(value, np.float64).ravel()
  return np.array([
      x.mean(), x.std(ddof=1), x @ hash_unit(name, x.size) / x.size**0.5
  ])
