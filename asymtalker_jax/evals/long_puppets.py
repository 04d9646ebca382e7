"""Long videos of puppets, as the puppet reader sees them."""

from collections.abc import Iterable

import numpy as np

from asymtalker_jax.evals import cases as cases_lib
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
    count = min(len(task.clip.tracks['mouth']), len(past.energy))
    mouths = reading.tracks['mouth'][:count], task.clip.tracks['mouth'][:count]
    sync = lip_sync.measure(*mouths)
    curves = {
        'identity': identity.similarity(reading.embedding, reference),
        'motion': _windowed_pose(reading.tracks, size),
        'lip_sync': long_run.per_window(
            count, size, lambda at: lip_sync.correlation(*(m[at] for m in mouths))
        ),
    }
    if size > 1 and len(past.energy) > 1:
      curves['frechet'] = long_run.per_window(
          len(past.energy), size, lambda at: self._distance(reading.features[at])
      )
    features = len(self._truth.mean)
    return long_run.Seen(
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
        few_samples=min(size, self._truth.count) < features,
        thumbnails=np.stack(past.thumbnails),
    )

  def _distance(self, features: np.ndarray) -> float:
    """Of a window's features [n, D] to ground truth."""
    moments = frechet.Moments(features.shape[1])
    moments.update(features)
    return frechet.distance(moments, self._truth)


def _windowed_pose(tracks: dict[str, np.ndarray], size: int) -> np.ndarray:
  """[N] deviation of yaw and pitch from the mean of their own window, so that
  the mean over a window is its motion amplitude."""
  out = []
  for start in range(0, len(tracks['yaw']), size):
    part = slice(start, start + size)
    yaw, pitch = tracks['yaw'][part], tracks['pitch'][part]
    out.append(np.hypot(yaw - yaw.mean(), pitch - pitch.mean()))
  return np.concatenate(out)
