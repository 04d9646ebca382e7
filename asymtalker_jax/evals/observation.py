"""One pass over a video: everything that is kept of it, per frame.

Videos may be long, so frames are looked at once and dropped; what remains is
about 1 KB per frame.
"""

from collections.abc import Iterable, Iterator
import dataclasses

import numpy as np

from asymtalker_jax.evals import drift
from asymtalker_jax.evals import reader as reader_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
  """A video of N frames.

  Attributes:
    reading: what the reader read.
    colours: [N, 3] mean Lab colour.
    energy: [N] mean squared change from the frame before; 0 for the first.
    thumbnails: [n, H, W, 3] uint8, frames spread evenly over the video.
  """

  reading: reader_lib.Reading
  colours: np.ndarray
  energy: np.ndarray
  thumbnails: np.ndarray


class _Watch:
  """Keeps the cheap per-frame figures while frames pass through."""

  def __init__(self, thumbnail_every: int):
    self.colours, self.energy, self.thumbnails = [], [], []
    self._every = thumbnail_every
    self._last = None

  def through(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the frames unchanged."""
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


def observe(
    frames: Iterable[np.ndarray],
    reader: reader_lib.Reader,
    thumbnail_every: int = 25,
) -> Observation:
  """Watches a video once.

  Args:
    frames: [H, W, 3] uint8, one by one.
    reader: the puppet reader.
    thumbnail_every: frames between thumbnails.

  Raises:
    ValueError: no frames, or frames of a wrong size.
  """
  watch = _Watch(thumbnail_every)
  reading = reader.read(watch.through(frames))
  return Observation(
      reading=reading,
      colours=np.stack(watch.colours),
      energy=np.asarray(watch.energy),
      thumbnails=np.stack(watch.thumbnails),
  )
