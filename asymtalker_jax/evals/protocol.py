"""The evaluation: every system on every case, by the same metrics.

A video that cannot be read or measured is listed and the run goes on; the
others are figures over what is left, and say of how many videos.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from absl import logging
import numpy as np

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import systems as systems_lib

TRUTH = 'gt'
THUMBNAIL_EVERY = 16


@dataclasses.dataclass(kw_only=True)
class Result:
  """What was measured of one system.

  Attributes:
    figures: over all its videos.
    curves: to plot.
    clips: figures of each video, with its 'name' and 'person'.
    thumbnails: video -> [n, H, W, 3] uint8, of the first ones.
    failures: {'video', 'reason'} of videos that could not be read, and with
      'metric' of those that one metric could not measure.
    protocol: metric -> {'description', 'samples'}.
    warnings: lines for the reader of the figures.
  """

  figures: dict[str, float] = dataclasses.field(default_factory=dict)
  curves: dict[str, list] = dataclasses.field(default_factory=dict)
  clips: list[dict] = dataclasses.field(default_factory=list)
  thumbnails: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  failures: list[dict] = dataclasses.field(default_factory=list)
  protocol: dict[str, dict] = dataclasses.field(default_factory=dict)
  warnings: list[str] = dataclasses.field(default_factory=list)

  def as_dict(self) -> dict[str, Any]:
    """For JSON: without pictures."""
    values = dict(vars(self))
    del values['thumbnails']
    return values


def reason(error: Exception) -> str:
  """What an error says, on one line."""
  return ' '.join(str(error).split()) or type(error).__name__


class _Scoring:
  """One system on its way through the cases."""

  def __init__(
      self,
      name: str,
      system: systems_lib.System,
      metrics: Sequence[metric_lib.Metric],
      sheets: int,
  ):
    self.name, self._system = name, system
    self.metrics, self._sheets = metrics, sheets
    self.result = Result()

  def fail(self, case: str, error: Exception, **more: str) -> None:
    """Notes a video that could not be read or measured."""
    why = reason(error)
    self.result.failures.append({'video': case, 'reason': why} | more)
    logging.error('%s, %s: %s', self.name, case, why)

  def score(self, case: cases_lib.Case) -> None:
    """Measures the video of one case."""
    try:
      frames, truth = systems_lib.fitted(self._system(case), case)
    except (ValueError, OSError) as error:
      self.fail(case.name, error)
      return
    row = {
        'name': case.name,
        'person': int(case.clip.identity),
        'frames': len(frames),
    }
    for metric in self.metrics:
      try:
        row |= metric.update(case.name, frames, truth, case.image)
      except ValueError as error:
        self.fail(case.name, error, metric=metric.name)
    self.result.clips.append(row)
    if len(self.result.thumbnails) < self._sheets:
      self.result.thumbnails[case.name] = frames[::THUMBNAIL_EVERY].copy()

  def finish(self, truth: '_Scoring') -> None:
    """Figures over all videos."""
    for metric, real in zip(self.metrics, truth.metrics):
      if not metric.samples or not real.samples:
        continue
      self.result.figures |= metric.figures(real)
      self.result.curves |= metric.curves()
      self.result.protocol[metric.name] = {
          'description': metric.description,
          'samples': metric.samples,
          'real_samples': real.samples,
      }
      self.result.warnings += metric.warnings
      self.result.warnings += _too_few(metric, real)
    self.result.figures['videos'] = float(len(self.result.clips))


def _too_few(
    metric: metric_lib.Metric, real: metric_lib.Metric
) -> list[str]:
  """Lines that say where a distance rests on fewer samples than features."""
  lines, of = [], f'samples for {metric.dimension} features'
  few = min(metric.samples, real.samples)
  if few < metric.dimension:
    lines.append(
        f'{metric.name}: {few} {of}; the distance is not comparable with that'
        ' of other sets'
    )
  windows = metric.curves().get(f'{metric.name}_samples', ())
  if windows and min(windows) < metric.dimension:
    lines.append(
        f'{metric.name} over time: from {min(windows)} {of} in a window; to be'
        ' compared with windows of as many only'
    )
  return lines


def run(
    systems: dict[str, systems_lib.System],
    cases: cases_lib.Cases,
    metrics: Callable[[], Sequence[metric_lib.Metric]],
    sheets: int = 4,
) -> dict[str, Result]:
  """Scores every system on every case; TRUTH is added in front.

  Args:
    systems: by name.
    cases: read one after the other.
    metrics: makes one set of metrics per system.
    sheets: videos of which thumbnails are kept.

  Returns:
    Results by name, those of unreadable cases under TRUTH.

  Raises:
    ValueError: no cases.
  """
  if not len(cases):
    raise ValueError('0 cases: expected at least 1 to evaluate')
  everyone = {TRUTH: systems_lib.ground_truth} | systems
  scorings = [
      _Scoring(name, system, metrics(), sheets)
      for name, system in everyone.items()
  ]
  for index, name in enumerate(cases.names):
    try:
      case = cases[index]
    except (ValueError, OSError) as error:
      scorings[0].fail(name, error)
      continue
    for scoring in scorings:
      scoring.score(case)
    del case  # Before the next one is read: it may be large.
    logging.info('video %d/%d: %s', index + 1, len(cases), name)
  for scoring in scorings:
    scoring.finish(scorings[0])
  return {scoring.name: scoring.result for scoring in scorings}
