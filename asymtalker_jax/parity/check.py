"""Runs what a golden file records and compares, output by output."""

from collections.abc import Callable
import dataclasses
import os
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
    relative_error: the same in units of the largest recorded value.
    tolerance: on max_abs_error.
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


def run(path: str | os.PathLike) -> Report:
  """Computes every output of a golden file from its weights and inputs.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not a golden file, of a kind that is not supported, or with
      weights or a configuration that do not fit the network.
  """
  golden, file = golden_lib.load(path), os.path.basename(os.fspath(path))
  kind, compute = _find(golden, file)
  if not golden.outputs:
    raise ValueError(f'{file}: no recorded outputs')
  with jax.default_matmul_precision('highest'):
    values = compute(golden)
  rows = tuple(_compare(golden, name, values) for name in golden.outputs)
  return Report(
      file=file, kind=kind, reference=golden.meta['reference'], rows=rows
  )


def _compare(golden, name: str, values: dict[str, Any]) -> Row:
  wanted = golden[f'out.{name}']
  found = dict(
      output=name,
      shape=wanted.shape,
      max_abs_error=None,
      relative_error=None,
      tolerance=golden.atol(name),
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
  scale = float(np.abs(wanted).max(initial=0.0))
  found['max_abs_error'] = error
  found['relative_error'] = error / scale if scale else error
  found['passed'] = error <= found['tolerance']
  return Row(**found)
