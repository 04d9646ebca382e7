"""Blinks and head motion of filmed people, from the points of their face.

  opening e  = (|p1 p5| + |p2 p4|) / (2 |p0 p3|), mean of both eyes         (1)
  openness o = e / max(third quartile of e within 2 s, CLOSED_EYES)         (2)

with p0 and p3 the corners of an eye, p1, p2 on its upper and p5, p4 on its
lower lid (the eye aspect ratio of Soukupova and Cech, 2016). Yaw and pitch are
those of the points that speech does not move, against the first frame. The
camera is taken to be far away.
"""

import numpy as np
from scipy import ndimage

from asymtalker_jax import types
from asymtalker_jax.evals import faces
from asymtalker_jax.evals import landmarks
from asymtalker_jax.evals import motion

FPS = 25
# A lid that falls below SHUT, until it is above OPEN again; of equation (2).
SHUT, OPEN = 0.5, 0.7
LONGEST_FRAMES = 15  # one is enough: so short are fast blinks at 25 fps
CLOSED_EYES = 0.1  # of equation (1): eyes that are never further open
STILL = 1e-3  # degrees of standard deviation: a head that does not move
_AROUND_FRAMES = 101
# p0 to p5 of the right and the left eye in MediaPipe's mesh.
_EYES = np.array([
    [33, 160, 158, 133, 153, 144],
    [362, 385, 387, 263, 373, 380],
])
# Forehead, temples, bridge and tip of the nose, corners of the eyes.
RIGID = np.array([
    10, 151, 9, 8, 54, 284, 103, 332, 127, 356, 168, 6, 197, 195, 5, 4, 33, 133,
    362, 263,
])  # pyformat: disable


def opening(points: np.ndarray) -> np.ndarray:
  """[N] equation (1) of points [N, 478, 3]."""
  eyes = points[:, _EYES, :2]
  gap = lambda a, b: np.linalg.norm(eyes[:, :, a] - eyes[:, :, b], axis=-1)
  return ((gap(1, 5) + gap(2, 4)) / (2.0 * gap(0, 3))).mean(axis=1)


def openness(track: np.ndarray) -> np.ndarray:
  """[N] equation (2) of `opening` [N] at 25 fps: about 1 for open eyes."""
  level = ndimage.percentile_filter(track, 75, _AROUND_FRAMES, mode='reflect')
  return track / np.maximum(level, CLOSED_EYES)


def find(track: np.ndarray) -> list[tuple[int, int]]:
  """[start, stop) in frames of every blink.

  A blink is counted by its fall: one that the video begins in is left out, one
  that it ends in is in. What lasts longer than LONGEST_FRAMES is a closed eye
  or a look down.

  Args:
    track: [N] `openness` at 25 fps.
  """
  low = np.concatenate([[False], np.asarray(track) <= OPEN, [False]])
  edges = np.flatnonzero(np.diff(low.astype(np.int8)))
  return [
      (int(start), int(stop))
      for start, stop in zip(edges[::2], edges[1::2])
      if start > 0
      and stop - start <= LONGEST_FRAMES
      and np.min(track[start:stop]) < SHUT
  ]


def head_angles(points: np.ndarray) -> dict[str, np.ndarray]:
  """'yaw' and 'pitch' [N] in degrees against the first frame.

  The rotation is the best one in least squares (Kabsch, 1976).

  Args:
    points: [N, 478, 3].
  """
  rigid = points[:, RIGID] - points[:, RIGID].mean(axis=1, keepdims=True)
  left, _, right = np.linalg.svd(rigid.transpose(0, 2, 1) @ rigid[0])
  left[:, :, 2] *= np.linalg.det(left @ right)[:, None]  # No mirroring.
  turn = left @ right
  return {
      'yaw': np.degrees(np.arctan2(turn[:, 0, 2], turn[:, 2, 2])),
      'pitch': np.degrees(np.arcsin(np.clip(-turn[:, 1, 2], -1.0, 1.0))),
  }


class Blinks:
  """A `Metric` of one face: blink rate and head motion."""

  name = 'blinks'
  dimension = 0
  warnings = ()
  description = (
      'eye aspect ratio of the points of the MediaPipe face landmarker,'
      f' below {SHUT:g} of the open eye and back above {OPEN:g} within'
      f' {LONGEST_FRAMES} frames; yaw and pitch of the same points'
  )

  def __init__(self, look: landmarks.Find, detect: faces.Detect):
    """Args: look: of `landmarks.finder`; detect: of `faces.yunet`."""
    self._look, self._detect = look, detect
    self._rows: dict[str, dict[str, float]] = {}

  @property
  def samples(self) -> int:
    return len(self._rows)

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """See `Metric`."""
    del clip, image
    points, at = self._points(frames)
    track = np.interp(np.arange(len(frames)), at, opening(points))
    angles = head_angles(points)
    self._rows[name] = {
        'blinks': len(find(openness(track))),
        'minutes': len(frames) / FPS / 60.0,
        'yaw': float(np.var(angles['yaw'])),
        'pitch': float(np.var(angles['pitch'])),
    }
    return _figures([self._rows[name]])

  def _points(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[n, 478, 3] of the frames in which a face is seen, and which these are.

    Raises:
      ValueError: no face, or none for longer than `faces.MAX_GAP_FRAMES`.
    """
    track = faces.track(frames, self._detect)
    rows = zip(frames, track.boxes, track.points)
    found = [self._look(frame, box, five[:2]) for frame, box, five in rows]
    at = np.flatnonzero([points is not None for points in found])
    gap = int(np.diff([-1, *at, len(frames)]).max()) - 1
    if not len(at) or gap > faces.MAX_GAP_FRAMES:
      raise ValueError(
          f'no points of a face for {gap} of {len(frames)} frames; expected at'
          f' most {faces.MAX_GAP_FRAMES}'
      )
    return np.stack([found[index] for index in at]), at

  def figures(self, truth: 'Blinks') -> dict[str, float]:
    """See `Metric`; head motion is not a number where the truth is still."""
    both = [name for name in self._rows if name in truth._rows]
    energies = [
        [rows[name]['yaw'] + rows[name]['pitch'] for name in both]
        for rows in (self._rows, truth._rows)
    ]
    still = sum(energies[1]) <= STILL**2 * len(both)
    return _figures(list(self._rows.values())) | {
        'head_motion': np.nan if still else motion.amplitude(*energies)
    }

  def curves(self) -> dict[str, list]:
    """See `Metric`."""
    return {}


def _figures(rows: list[dict[str, float]]) -> dict[str, float]:
  """Of all videos together: a long one weighs more in the rate."""
  total = lambda key: float(np.sum([row[key] for row in rows]))
  return {
      'blinks': total('blinks'),
      'blinks_per_min': total('blinks') / total('minutes'),
      'yaw_std': float(np.sqrt(total('yaw') / len(rows))),
      'pitch_std': float(np.sqrt(total('pitch') / len(rows))),
  }
