"""Long videos of puppets, as the puppet reader sees them."""

from collections.abc import Iterable

import numpy as np

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import reader as reader_lib


class Puppets:
  """A `long_run.Watcher` of tasks with a mouth track."""

  def __init__(self, reader: reader_lib.Reader):
    """Args: reader: the puppet reader."""
    self._reader = reader
    self._truth = frechet.Moments(reader.config['features'])

  def learn(self, case: cases_lib.Case) -> None:
    """See `long_run.Watcher`."""
    self._truth.update(self._reader.read(case.clip.frames).features)

  def watch(
      self, frames: Iterable[np.ndarray], task: cases_lib.Case, size: int
  ) -> long_run.Seen:
    """See `long_run.Watcher`."""
    past = observation.Watch(long_run.THUMBNAIL_FRAMES)
    reading = self._reader.read(past.through(frames))
    reference = self._reader.read([task.image]).embedding[0]
    ends = drift.edges(len(past.energy), size)
    count = min(len(task.clip.tracks['mouth']), len(past.energy))
    mouths = reading.tracks['mouth'][:count], task.clip.tracks['mouth'][:count]
    sync = lip_sync.measure(*mouths)
    curves = {
        'identity': identity.similarity(reading.embedding, reference),
        'motion': long_run.per_window(
            ends, lambda at: _pose_deviation(reading.tracks, at)
        ),
        'lip_sync': long_run.per_window(
            np.minimum(ends, count),
            lambda at: lip_sync.correlation(*(mouth[at] for mouth in mouths)),
        ),
        'frechet': long_run.per_window(
            ends, lambda at: self._distance(reading.features[at])
        ),
    }
    features = len(self._truth.mean)
    return long_run.Seen(
        ends=ends,
        curves=curves,
        colours=np.stack(past.colours),
        energy=np.asarray(past.energy),
        figures={
            'lip_sync': sync.correlation,
            'best_lag': float(sync.best_lag),
        },
        distances={
            'Frechet distance': f'{size} frames per window against'
            f' {self._truth.count} frames of ground truth, {features} reader'
            ' features'
        },
        networks={'identity, motion, lip-sync': 'puppet reader'},
        few_samples=min(size, self._truth.count) < features,
        thumbnails=np.stack(past.thumbnails),
    )

  def _distance(self, features: np.ndarray) -> float:
    """Of a window's features [n, D] to ground truth."""
    moments = frechet.Moments(features.shape[1])
    moments.update(features)
    return frechet.distance(moments, self._truth)


def _pose_deviation(tracks: dict[str, np.ndarray], at: slice) -> np.ndarray:
  """[n] deviation of yaw and pitch from their mean in a window of n frames, so
  that the mean over the window is its motion amplitude."""
  yaw, pitch = tracks['yaw'][at], tracks['pitch'][at]
  return np.hypot(yaw - yaw.mean(), pitch - pitch.mean())
