"""How fast a run is: seconds by part, examples, tokens and useful FLOPs."""

from collections.abc import Callable, Iterable, Mapping
import math
import time
from typing import Any

import jax

from asymtalker_jax.models import variants
from asymtalker_jax.train import compile_report
from asymtalker_jax.train import needed_flops
from asymtalker_jax.train import program as program_lib

# Device kind, as JAX names it -> peak of dense bfloat16 products per second of
# one device. TPU: see `compile_report`; GPU: NVIDIA's data sheets.
_TPUS = {
    'TPU v5e': 'v5e',
    'TPU v5 lite': 'v5e',
    'TPU v5': 'v5p',
    'TPU v5p': 'v5p',
    'TPU v6e': 'v6e',
    'TPU v6 lite': 'v6e',
}
PEAK_FLOPS = {
    kind: compile_report.CHIPS[chip].flops for kind, chip in _TPUS.items()
} | {
    'NVIDIA A100-SXM4-40GB': 312e12,
    'NVIDIA A100-SXM4-80GB': 312e12,
    'NVIDIA H100 80GB HBM3': 989e12,
    'NVIDIA H200': 989e12,
}


def peak_flops(mesh: jax.sharding.Mesh) -> float | None:
  """Returns the peak of all devices of a mesh; None where it is not known."""
  peak = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
  return None if peak is None else peak * mesh.size


def needed(programs: Iterable[program_lib.Program]) -> dict[str, float]:
  """Returns program name -> operations that one of its steps needs."""
  return {
      p.name: needed_flops.needed_flops(p.plain(), p.args, p.trips)
      for p in programs
  }


def tokens_of(networks: variants.Networks) -> int:
  """Returns the tokens of one chunk."""
  cells = math.prod(networks.chunk.latent_shape[:3])
  return cells // math.prod(networks.dit.config.patch)


class Timer:
  """Wall time per step since the last report, by part.

  The loop runs ahead of the device by few steps only, so that its pace is that
  of the device; nothing is waited for to measure it.
  """

  def __init__(
      self,
      batch_size: int,
      tokens: int = 0,
      flops: Mapping[str, float] | None = None,
      peak: float | None = None,
  ):
    """Starts the clock; `restart` when the first step begins.

    Args:
      batch_size: examples in a batch over all processes.
      tokens: that an example adds to the loss; 0 is not reported.
      flops: program -> operations that a step of it needs.
      peak: operations per second of all devices; None: MFU is not reported.
    """
    self._batch_size, self._tokens = batch_size, tokens
    self._flops, self._peak = flops or {}, peak
    self.restart()

  def restart(self) -> None:
    """Forgets the time since the last report."""
    self._began = time.monotonic()
    self._data_s = self._paused_s = self._compile_s = self._done = 0.0
    self._batches = 0

  def step(self, name: str) -> None:
    """Counts a step of a program that is compiled."""
    self._batches += 1
    self._done += self._flops.get(name, 0.0)

  def data(self) -> '_Span':
    """Context: waiting for a batch and handing it to the device."""
    return _Span(self._on_data)

  def pause(self) -> '_Span':
    """Context: not part of the step time (save, evaluation)."""
    return _Span(self._on_pause)

  def compile(self) -> '_Span':
    """Context: the first call of a program."""
    return _Span(self._on_compile)

  def report(self) -> dict[str, float]:
    """Returns what happened since the last report.

    Step time and rates are per batch taken, without compiling and pauses.
    MFU is the share of the peak that the operations need that have to be done,
    whatever is computed twice to save memory.
    """
    elapsed = time.monotonic() - self._began - self._paused_s
    values = {}
    if self._batches:
      rate = self._batch_size * self._batches / elapsed
      values = {
          'time/step_s': elapsed / self._batches,
          'time/data_wait_s': self._data_s / self._batches,
          'time/examples_per_s': rate,
      }
      if self._tokens:
        values['time/tokens_per_s'] = rate * self._tokens
      if self._peak and self._done:
        values['time/mfu'] = self._done / (elapsed * self._peak)
    if self._compile_s:
      values['time/compile_s'] = self._compile_s
    self.restart()
    return values

  def _on_data(self, seconds: float) -> None:
    self._data_s += seconds

  def _on_pause(self, seconds: float) -> None:
    self._paused_s += seconds

  def _on_compile(self, seconds: float) -> None:
    self._compile_s += seconds
    self._paused_s += seconds
    self._data_s = 0.0  # The wait for the first batch of all.


class _Span:
  """Context manager that tells a function how long it took."""

  def __init__(self, tell: Callable[[float], None]):
    self._tell = tell

  def __enter__(self):
    self._began = time.monotonic()

  def __exit__(self, *unused: Any):
    self._tell(time.monotonic() - self._began)
