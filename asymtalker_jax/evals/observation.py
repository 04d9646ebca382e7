"""One pass over a long video: frames are looked at once and dropped."""

from collections.abc import Iterable, Iterator

import numpy as np

from asymtalker_jax.evals import drift


class Watch:
  """Keeps what is cheap to see while frames pass through.

  Attributes:
    colours: [N] times [3], mean Lab colour.
    energy: [N] mean squared change from the frame before; 0 for the first.
    thumbnails: [H, W, 3] uint8, one every so many frames.
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
        self.thumbnails.append(frame)
      yield frame
