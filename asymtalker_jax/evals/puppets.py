"""Figures of puppets: what the puppet reader sees, against the tracks.

It stands where SyncNet, ArcFace and Inception stand for filmed people.
"""

import dataclasses

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import motion
from asymtalker_jax.evals import reader as reader_lib

# Features of at most this many frames of a video enter KID, whose cost is
# quadratic; and of this many in all.
KID_FRAMES_PER_CLIP, KID_FRAMES = 200, 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
  """What is kept of one video.

  Attributes:
    sync: lip-sync against the mouth track.
    identity: [N] similarity to the identity reference.
    pose_variance: of the read yaw and pitch.
    features: [n, D], thinned.
  """

  sync: lip_sync.LipSync
  identity: np.ndarray
  pose_variance: float
  features: np.ndarray


class Puppets:
  """A `Metric` of clips with a mouth track."""

  name = 'puppets'
  warnings = ()

  def __init__(self, reader: reader_lib.Reader):
    """Args: reader: the puppet reader."""
    self._reader = reader
    self._rows: dict[str, _Row] = {}
    self.dimension = reader.config['features']
    self.description = (
        'mouth, pose, identity and features as the puppet reader sees them,'
        f' {self.dimension} features'
    )
    self._moments = frechet.Moments(self.dimension)

  @property
  def samples(self) -> int:
    return self._moments.count

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """See `Metric`.

    Raises:
      ValueError: a clip without a mouth track.
    """
    if 'mouth' not in clip.tracks:
      raise ValueError(
          f'clip with tracks {sorted(clip.tracks)}: expected "mouth"; for other'
          ' videos than puppets leave "puppets" out of --metrics'
      )
    seen = self._reader.read(frames)
    reference = self._reader.read([image]).embedding[0]
    every = -(-len(seen.features) // KID_FRAMES_PER_CLIP)
    row = _Row(
        sync=lip_sync.measure(seen.tracks['mouth'], clip.tracks['mouth']),
        identity=identity.similarity(seen.embedding, reference),
        pose_variance=motion.pose_variance(seen.tracks),
        features=seen.features[::every].copy(),  # The others are not kept.
    )
    self._rows[name] = row
    self._moments.update(seen.features)
    return {
        'lip_sync': row.sync.correlation,
        'best_lag': row.sync.best_lag,
        'identity': float(row.identity.mean()),
    }

  def figures(self, truth: 'Puppets') -> dict[str, float]:
    """See `Metric`."""
    rows = list(self._rows.values())
    both = [name for name in self._rows if name in truth._rows]
    pairs = [(self._rows[name], truth._rows[name]) for name in both]
    sync = lip_sync.mean([row.sync for row in rows])
    variances = [[row.pose_variance for row in side] for side in zip(*pairs)]
    return {
        'lip_sync': sync.correlation,
        'best_lag': float(sync.best_lag),
        'lip_sync_at_best_lag': sync.best,
        'lip_sync_worst_clip': min(row.sync.correlation for row in rows),
        'identity': float(np.mean([row.identity.mean() for row in rows])),
        'identity_relative': float(np.mean(
            [identity.relative(s.identity, t.identity) for s, t in pairs]
        )),
        'motion_amplitude': motion.amplitude(*variances),
        'frechet': frechet.distance(self._moments, truth._moments),
        'kid': frechet.kid(self._thinned(), truth._thinned()),
    }

  def _thinned(self) -> np.ndarray:
    """At most KID_FRAMES features, spread evenly."""
    features = np.concatenate([row.features for row in self._rows.values()])
    return features[:: -(-len(features) // KID_FRAMES)]

  def curves(self, fps: int = 25) -> dict[str, list]:
    """Means over videos: lip-sync over lags, identity over time."""
    rows = list(self._rows.values())
    shortest = min(len(row.identity) for row in rows)
    sync = lip_sync.mean([row.sync for row in rows])
    return {
        'lags': sync.lags.tolist(),
        'lip_sync': sync.curve.tolist(),
        'times': (np.arange(shortest) / fps).tolist(),
        'identity': np.mean(
            [row.identity[:shortest] for row in rows], axis=0
        ).tolist(),
    }
