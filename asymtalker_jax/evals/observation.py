"""One pass over a long video: frames are looked at once and dropped."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from asymtalker_jax.evals import drift


THUMBNAIL_PX = 128


def thumbnail(frame: np.ndarray) -> np.ndarray:
  """A frame [H, W, 3] uint8, made smaller where a side is longer than
  THUMBNAIL_PX."""
  scale = THUMBNAIL_PX / max(frame.shape[:2])
  if scale >= 1.0:
    return frame
  return cv2.resize(
      frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
  )


class Watch:
  """Keeps what is cheap to see while frames pass through.

  Attributes:
    colours: [N] times [3], mean Lab colour.
    energy: [N] mean squared change from the frame before; 0 for the first.
    thumbnails: [h, w, 3] uint8, one every so many frames, THUMBNAIL_PX or
      less to a side.
  """

  def __init__(self, thumbnail_every: int):
    """Args: thumbnail_every: frames from one thumbnail to the next."""
    self.colours, self.energy, self.thumbnails = [], [], []
    self._every = thumbnail_every
    self._last = None

  def through(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the frames [H, W, 3] uint8 unchanged."""
    for index, frame in enumerate(frames):
      frame = np.asarray(frame)
      self.colours.append(drift.mean_lab(frame))
      if self._last is None:
        self.energy.append(0.0)
      else:
        step = frame.astype(np.float32) - self._last
        self.energy.append(float(np.mean(step * step)))
      self._last = frame
      if index % self._every == 0:
        self.thumbnails.append(thumbnail(frame))
      yield frame
