"""Long videos of filmed people: every window by the metrics of the field.

A window is scored as a video of its own, by the same code as clips are, so
its figures mean what they mean there. Memory holds one window of frames.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools

from absl import logging
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import long_tasks
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import sync_confidence
from asymtalker_jax.evals import systems
from asymtalker_jax.inputs import source
from asymtalker_jax.inputs import video

# The others compare each frame with its own ground truth.
METRICS = ('fid', 'fvd', 'sync', 'arcface', 'blinks')
# Figure of a window -> name of its curve.
_CURVES = {
    'arcface': 'identity',
    'sync_c': 'sync_c',
    'sync_d': 'sync_d',
    'fid': 'fid',
    'fvd': 'fvd',
    'blinks_per_min': 'blinks_per_min',
}
_WHOLE = ('sync_c', 'sync_d', 'blinks_per_min')  # figures: means over windows
_OF_A_FACE = {'sync', 'arcface', 'blinks'}
# Of a window: half of one that lacks some frames is the shortest there is.
_LEAST = 2 * (sync_confidence.LEAST_FRAMES + systems.SLACK_FRAMES)
_FEW = 'few samples'  # of a window: 1 where a distance rests on too few


def _stacked(
    stream: Iterator[np.ndarray], count: int, shape: tuple[int, ...]
) -> np.ndarray:
  """The next frames of a stream, [count or fewer, *shape] uint8."""
  window = np.empty((count, *shape), np.uint8)
  read = 0
  for frame in itertools.islice(stream, int(count)):
    window[read] = frame
    read += 1
  return window[:read]


class Filmed:
  """A `long_run.Watcher` by networks of the field."""

  def __init__(
      self, make: Callable[[], Sequence[metric_lib.Metric]], size: int
  ):
    """Args: make: metrics, of which METRICS are used. size: of a window.

    Raises:
      ValueError: windows too short for Sync-C or FVD.
    """
    self._make = lambda: [m for m in make() if m.name in METRICS]
    metrics = self._make()
    short = {m.name for m in metrics} & {'sync', 'fvd'}
    if short and size < _LEAST:
      raise ValueError(
          f'--window_s={size / video.FPS:g}: expected at least'
          f' {_LEAST / video.FPS:g} for {" and ".join(sorted(short))}'
      )
    self._truth = {m.name: m for m in metrics if m.dimension}
    self._networks = {m.name: m.description for m in metrics if not m.dimension}

  def learn(self, case: cases_lib.Case) -> None:
    """See `long_run.Watcher`."""
    for metric in self._truth.values():
      metric.update(case.name, case.clip.frames, case.clip, case.image)

  def watch(
      self, frames: Iterable[np.ndarray], task: cases_lib.Case, size: int
  ) -> long_run.Seen:
    """See `long_run.Watcher`."""
    past = observation.Watch(long_run.THUMBNAIL_FRAMES)
    stream = past.through(frames)
    ends = drift.edges(long_tasks.frames(task), size)
    rows = []
    for start, stop in zip(ends, ends[1:]):
      window = _stacked(stream, stop - start, task.image.shape)
      if len(window):
        rows.append(self._score(window, task, int(start)))
    for _ in stream:  # There is no more, or it says what is wrong.
      pass
    ends = np.append(ends[: len(rows)], len(past.energy))
    curves = {
        name: np.repeat([row.get(name, np.nan) for row in rows], np.diff(ends))
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    few = curves.pop(_FEW, np.zeros(1))
    return long_run.Seen(
        ends=ends,
        curves=curves,
        colours=np.stack(past.colours),
        energy=np.asarray(past.energy),
        figures={
            name: float(np.nanmean(curves[name]))
            for name in _WHOLE
            if name in curves
        },
        distances={
            name: f'windows of {size} frames against {metric.samples} samples'
            f' of ground truth; {metric.description}'
            for name, metric in self._truth.items()
        },
        networks=self._networks,
        few_samples=bool(few.any()),
        thumbnails=np.stack(past.thumbnails),
    )

  def _score(
      self, window: np.ndarray, task: cases_lib.Case, start: int
  ) -> dict[str, float]:
    """Curve -> value of one window; 'face' is 0 where none could be measured.

    Raises:
      ValueError: so it is with the first window.
    """
    each = source.SAMPLES_PER_FRAME
    clip = types.Clip(
        frames=task.clip.frames,
        waveform=task.clip.waveform[start * each :][: len(window) * each],
        identity=task.clip.identity,
    )
    figures, state = {}, {}
    for metric in self._make():
      truth = self._truth.get(metric.name, metric)
      if metric.name in _OF_A_FACE:
        state.setdefault('face', 1.0)
      try:
        figures |= metric.update(task.name, window, clip, task.image)
        figures |= metric.figures(truth)
      except ValueError as error:
        where = f'frames {start} to {start + len(window) - 1}: {error}'
        if not start or metric.name not in _OF_A_FACE:
          raise ValueError(where) from error
        logging.warning('%s, %s: %s', task.name, metric.name, where)
        state['face'] = 0.0
      if min(metric.samples, truth.samples) < metric.dimension:
        state[_FEW] = 1.0
    row = {new: figures[old] for old, new in _CURVES.items() if old in figures}
    if 'yaw_std' in figures:
      row['motion'] = float(np.hypot(figures['yaw_std'], figures['pitch_std']))
    return row | state
