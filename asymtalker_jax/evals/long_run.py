"""Long videos: figures and curves of what a watcher saw of one.

No ground truth exists for them, so every figure compares a video with its
identity reference, with its own beginning, with the speech, or (as a
distribution) with ground-truth frames of other videos. `long_puppets` and
`long_filmed` watch.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import drift
from asymtalker_jax.inputs import video

# Failure of a window, relative to the first one.
LIMITS = {
    'identity': drift.Limit(change=0.1),
    'lab_shift': drift.Limit(change=5.0, relative=False, rising=True),
    'lip_sync': drift.Limit(change=0.5),
    'sync_c': drift.Limit(change=0.5),
    'motion': drift.Limit(change=0.8),
    'frechet': drift.Limit(change=1.0, rising=True),
    'fid': drift.Limit(change=1.0, rising=True),
    'fvd': drift.Limit(change=1.0, rising=True),
    'face': drift.Limit(change=0.5),
}
THUMBNAIL_S = 10.0
THUMBNAIL_FRAMES = int(THUMBNAIL_S * video.FPS)
# Curves whose first and last window are figures.
_ENDS = ('lip_sync', 'sync_c', 'sync_d', 'frechet', 'fid', 'fvd')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
  """What a watcher keeps of a video of N frames, about 1 KB per frame.

  Attributes:
    ends: [W + 1] frames between which its windows are.
    curves: name -> [N]; not a number where a frame has none.
    colours: [N, 3] mean Lab colour.
    energy: [N] mean squared change from the frame before.
    figures: of the whole video, beside those that follow from the curves.
    distances: name -> what a distance of windows rests on.
    networks: name -> by which network and protocol the others are measured.
    few_samples: whether these are fewer than it has features.
    thumbnails: [n, h, w, 3] uint8, one every THUMBNAIL_S.
  """

  ends: np.ndarray
  curves: dict[str, np.ndarray]
  colours: np.ndarray
  energy: np.ndarray
  figures: dict[str, float]
  distances: dict[str, str]
  networks: dict[str, str]
  few_samples: bool
  thumbnails: np.ndarray


class Watcher(Protocol):
  """Sees long videos of one kind of people."""

  def learn(self, case: cases_lib.Case) -> None:
    """Takes in ground truth that windows are compared with."""

  def watch(
      self, frames: Iterable[np.ndarray], task: cases_lib.Case, size: int
  ) -> Seen:
    """Watches a video once.

    Args:
      frames: [H, W, 3] uint8 one by one, of the system under test.
      task: of `long_tasks`.
      size: frames of a window.

    Raises:
      ValueError: a video that cannot be measured.
    """


def per_window(
    ends: np.ndarray, measure: Callable[[slice], float | np.ndarray]
) -> np.ndarray:
  """[N] what was measured of each frame's window, one value of it or one of
  every frame."""
  return np.concatenate([
      np.broadcast_to(measure(slice(a, b)), b - a)
      for a, b in zip(ends, ends[1:])
  ])


def summarise(seen: Seen, window_s: float) -> dict[str, Any]:
  """A watched video as plain values.

  Returns:
    {'seconds', 'window_s', 'figures', 'curves': name -> trend, 'protocol'}.
  """
  size = int(round(window_s * video.FPS))
  seconds = len(seen.energy) / video.FPS
  curves = seen.curves | {
      'lab_shift': drift.lab_shift(
          seen.colours, seen.colours[:size].mean(axis=0)
      ),
      'frame_energy': seen.energy,
  }
  trends = {
      name: drift.trend(curve, seen.ends) for name, curve in curves.items()
  }
  failures = {
      name: drift.time_to_failure(trends[name], limit)
      for name, limit in LIMITS.items()
      if name in trends
  }
  happened = [time for time in failures.values() if time is not None]
  figures = _figures(seen, trends, size) | {
      # Not "never" where nothing fails: a mean would leave out the best videos.
      'within_limits_s': min(happened, default=seconds),
      'within_limits': float(not happened),
  }
  if 'identity' in curves:
    within = max(np.count_nonzero(seen.ends <= 60 * video.FPS), 2)
    figures['identity_slope_first_min'] = drift.trend(
        curves['identity'], seen.ends[:within]
    ).slope
  return {
      'seconds': seconds,
      'window_s': window_s,
      'figures': figures,
      'curves': {
          name: _plain(trend) | {'time_to_failure_s': failures.get(name)}
          for name, trend in trends.items()
      },
      'protocol': {
          'distances': seen.distances,
          'networks': seen.networks,
          'few_samples': seen.few_samples,
          'failure': {
              name: dataclasses.asdict(limit) for name, limit in LIMITS.items()
          },
      },
  }


def _figures(
    seen: Seen, trends: dict[str, drift.Trend], size: int
) -> dict[str, float]:
  """Figures of the whole video and of its ends."""
  ends = seen.colours[-size:].mean(axis=0) - seen.colours[:size].mean(axis=0)
  figures = seen.figures | {
      'frames': float(len(seen.energy)),
      'lab_shift_last': float(np.linalg.norm(ends)),
  }
  if 'identity' in trends:
    same = trends['identity']
    figures |= {
        'identity_first': same.first,
        'identity_last': same.last,
        'identity_change': same.last / same.first - 1.0,
        'identity_slope_per_min': same.slope,
        'identity_slope_interval': same.slope_interval,
    }
  if 'motion' in trends:
    moved = trends['motion']
    figures['motion_last_over_first'] = moved.last / max(moved.first, 1e-9)
  if 'face' in seen.curves:
    figures['face_share'] = float(np.mean(seen.curves['face']))
  for name in _ENDS:
    if name in trends:
      figures[f'{name}_first'] = trends[name].first
      figures[f'{name}_last'] = trends[name].last
  return figures


def mean_figures(results: Sequence[dict]) -> dict[str, float]:
  """Mean over videos; of a figure that one of them lacks there is none.

  The interval of the slope is that of one video, or of the mean of several.
  """
  column = lambda name: [result['figures'][name] for result in results]
  figures = {
      name: float(np.mean(column(name)))
      for name in results[0]['figures']
      if all(name in result['figures'] for result in results)
  }
  if len(results) > 1 and 'identity_slope_per_min' in figures:
    slopes = column('identity_slope_per_min')
    figures['identity_slope_interval'] = drift.interval(slopes)
  return figures


def notes(results: Sequence[dict]) -> list[str]:
  """What the distances of the windows rest on, and a warning where that is
  too little to be compared."""
  distances = results[0]['protocol']['distances']
  lines = [f'{name}: {text}' for name, text in distances.items()]
  if any(result['protocol']['few_samples'] for result in results):
    lines.append(
        'fewer samples per window than features: the distance is comparable'
        ' with that of windows of the same length only'
    )
  return lines


def _plain(trend: drift.Trend) -> dict:
  """A trend for JSON."""
  return {
      key: value.tolist() if isinstance(value, np.ndarray) else value
      for key, value in dataclasses.asdict(trend).items()
  }
