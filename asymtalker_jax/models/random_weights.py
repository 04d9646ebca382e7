"""Random parameters that cost no time: for benchmarks at full size.

One block of normal numbers is repeated and scaled by the fan-in, so that
activations stay finite; drawing 1.5e9 numbers one by one takes a minute.
"""

import functools
import math
import zlib

import numpy as np

_BLOCK = 1_000_003  # Prime: repetitions do not line up with rows.
_CONSTANT = {
    'bias': 0.0,
    'latent_mean': 0.0,
    'scale': 1.0,
    'gamma': 1.0,
    'magnitude': 1.0,
    'latent_std': 1.0,
    'timestep_scale': 1000.0,
}
_MODULATION = 0.02
_STACKED = 'blocks/'  # The transformer's layers share one array per parameter.


def draw(path: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
  """One parameter, the same for the same path and seed.

  Args:
    path: '/'-joined, its last name tells what the parameter is.
    shape: of the parameter.
    seed: of the numbers.

  Returns:
    float32: biases are 0, norms 1, matrices have unit gain.
  """
  name = path.rpartition('/')[2]
  if name in _CONSTANT:
    return np.full(shape, _CONSTANT[name], np.float32)
  scale = _MODULATION
  if 'modulation' not in name and 'noise_scale' not in name:
    inputs = shape[path.startswith(_STACKED) : -1]
    scale = 1 / math.sqrt(math.prod(inputs) or 1)
  start = zlib.crc32(path.encode()) % _BLOCK
  return _repeat(np.roll(_block(seed), start) * np.float32(scale), shape)


@functools.lru_cache
def _block(seed: int) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(_BLOCK, np.float32)


def _repeat(block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """`np.resize` without its copies."""
  flat = np.empty(math.prod(shape), np.float32)
  whole = len(flat) // len(block) * len(block)
  flat[:whole].reshape(-1, len(block))[:] = block
  flat[whole:] = block[: len(flat) - whole]
  return flat.reshape(shape)
