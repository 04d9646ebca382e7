"""Runs what a golden file records and compares, output by output.

In float32 the file names a tolerance on the largest error of each output. In
bfloat16 every operand of a matrix product, and the product, is off by up to
u = 2^-8 of itself. These errors are independent, so that they add up like a
random walk: after n products in a row their root mean square is below u sqrt(n)
of that of the values, if every layer keeps the scale of what it gets. No path
through the networks is longer than the number N of matrices in the file, except
in a chunk loop, where chunk j comes after P = steps x (j + 1) rounds, P = 1
elsewhere; a factor of two is for layers that do not keep the scale, such as
norms over few channels:

  root mean square of errors / that of recorded values <= 2 u sqrt(P N)     (1)
"""

from collections.abc import Callable
import dataclasses
import os
import re
from typing import Any

import jax
import numpy as np

from asymtalker_jax.parity import autoencoders
from asymtalker_jax.parity import chunk_loop
from asymtalker_jax.parity import golden as golden_lib
from asymtalker_jax.parity import lips
from asymtalker_jax.parity import mathematics
from asymtalker_jax.parity import speech
from asymtalker_jax.parity import transformers

DTYPES = ('float32', 'bfloat16')
_UNIT_ROUNDOFF = 2.0**-8  # of bfloat16, with its 8 significant bits
# Without a network that could run in another type; SyncNet is always float32.
_FLOAT32_ONLY = ('scheduler', 'dmd', 'frechet', 'syncnet')
# (kind, words of the reference, what computes the outputs); the first whose
# words are all in the reference counts.
_KINDS: tuple[tuple[str, tuple[str, ...], Callable[..., Any]], ...] = (
    ('chunk_loop', ('FlashHeadPipeline.prepare_params', 'generate'),
     chunk_loop.outputs),
    ('wan_dit', ('WanTransformer3DModel',), transformers.wan_dit),
    ('flashhead_dit', ('WanModelAudioProject',), transformers.flashhead_dit),
    ('wan_vae_diffusers', ('AutoencoderKLWan',),
     autoencoders.wan_vae_diffusers),
    ('ltx_vae_diffusers', ('AutoencoderKLLTXVideo',),
     autoencoders.ltx_vae_diffusers),
    ('wan_vae', ('WanVAE',), autoencoders.wan_vae_original),
    ('ltx_vae', ('CausalVideoAutoencoder',), autoencoders.ltx_vae_original),
    ('wav2vec2', ('Wav2Vec2Model',), speech.wav2vec2),
    ('scheduler', ('FlowMatchScheduler',), mathematics.scheduler),
    ('dmd', ('DMD',), mathematics.dmd),
    ('frechet', ('sqrtm', 'KID'), mathematics.frechet),
    ('syncnet', ('SyncNetModel',), lips.syncnet),
)  # pyformat: disable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """Comparison of one output.

  Attributes:
    output: its name, without 'out.'.
    shape: as recorded.
    max_abs_error: largest difference; None where nothing was computed.
    relative_error: root mean square of the differences, in units of that of
      the recorded values.
    tolerance: in float32 on max_abs_error, in bfloat16 on relative_error.
    passed: whether it is kept.
    note: why nothing could be compared, else empty.
  """

  output: str
  shape: tuple[int, ...]
  max_abs_error: float | None
  relative_error: float | None
  tolerance: float
  passed: bool
  note: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """Comparison of one file."""

  file: str
  kind: str
  reference: str
  dtype: str
  rows: tuple[Row, ...]

  @property
  def passed(self) -> bool:
    return bool(self.rows) and all(row.passed for row in self.rows)

  def as_dict(self) -> dict[str, Any]:
    """For JSON."""
    return dataclasses.asdict(self) | {'passed': self.passed}


def kinds() -> list[str]:
  """Kinds of golden files that can be checked."""
  return [kind for kind, _, _ in _KINDS]


def _find(golden: golden_lib.Golden, file: str):
  reference = str(golden.meta['reference'])
  for kind, words, compute in _KINDS:
    if all(word in reference for word in words):
      return kind, compute
  raise ValueError(
      f'{file}: kind not supported: reference {reference!r}; expected one of '
      f'{", ".join(kinds())}'
  )


def run(path: str | os.PathLike, dtype: str = 'float32') -> Report:
  """Computes every output of a golden file from its weights and inputs.

  Args:
    path: of the golden file.
    dtype: 'float32' or 'bfloat16', of the networks' matrix products.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a golden file, of a kind that is not supported (in this
      type), or with weights or a configuration that do not fit the network.
  """
  golden, file = golden_lib.load(path), os.path.basename(os.fspath(path))
  kind, compute = _find(golden, file)
  if not golden.outputs:
    raise ValueError(f'{file}: no recorded outputs')
  if dtype not in DTYPES or (dtype != 'float32' and kind in _FLOAT32_ONLY):
    choices = DTYPES[:1] if kind in _FLOAT32_ONLY else DTYPES
    raise ValueError(
        f'{file}: type {dtype!r} for a file of kind {kind}: expected '
        f'{" or ".join(choices)}'
    )
  golden = dataclasses.replace(golden, dtype=dtype)
  with jax.default_matmul_precision('highest'):
    values = compute(golden)
  rows = tuple(_compare(golden, name, values) for name in golden.outputs)
  return Report(
      file=file, kind=kind, reference=golden.meta['reference'], dtype=dtype,
      rows=rows,
  )


def bfloat16_limit(golden: golden_lib.Golden, output: str) -> float:
  """Right side of (1)."""
  chunk, passes = re.search(r'chunk(\d+)\.', output), 1
  if chunk:
    passes = golden.config['infer']['sample_steps'] * (int(chunk[1]) + 1)
  matrices = sum(np.ndim(w) >= 2 for w in golden.weights().values())
  return 2.0 * _UNIT_ROUNDOFF * (passes * matrices) ** 0.5


def _compare(golden, name: str, values: dict[str, Any]) -> Row:
  exact = golden.dtype == 'float32'
  wanted = golden[f'out.{name}']
  found = dict(
      output=name,
      shape=wanted.shape,
      max_abs_error=None,
      relative_error=None,
      tolerance=golden.atol(name) if exact else bfloat16_limit(golden, name),
      passed=False,
  )
  if name not in values:
    return Row(**found, note='not computed')
  try:
    value = golden_lib.as_stored(
        values[name], wanted.shape, golden.meaning(f'out.{name}')
    )
  except ValueError as error:
    return Row(**found, note=str(error))
  difference = np.abs(np.float64(value) - np.float64(wanted))
  error = float(difference.max(initial=0.0))
  if not np.isfinite(error):
    return Row(**found, note='not a number')
  scale = np.linalg.norm(np.float64(wanted).ravel())
  relative = float(np.linalg.norm(difference.ravel()) / (scale or 1.0))
  found['max_abs_error'], found['relative_error'] = error, relative
  found['passed'] = (error if exact else relative) <= found['tolerance']
  return Row(**found)
