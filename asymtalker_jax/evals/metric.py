"""What a metric is: it sees the videos of one system, then gives figures.

A factory makes one instance per system and one for ground truth; figures of a
system are taken relative to those of ground truth. Nothing that grows with the
number of pixels is kept.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from asymtalker_jax import types


class Metric(Protocol):
  """One group of figures of one system.

  Attributes:
    name: of the group, as in --metrics.
    description: protocol and networks, for the reader of a table.
    dimension: of the features whose distribution is compared, 0 for none.
    samples: features or videos seen so far.
    warnings: lines for the reader of its figures, as of another network than
      the published one.
  """

  name: str
  description: str
  dimension: int
  samples: int
  warnings: Sequence[str]

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """Takes one video in and returns its own figures.

    Args:
      name: of the case.
      frames: [N, H, W, 3] uint8 of the system.
      clip: ground truth of N frames of the same size.
      image: [H, W, 3] uint8 identity reference.

    Raises:
      ValueError: this video cannot be measured, as one without a face.
    """

  def figures(self, truth: 'Metric') -> dict[str, float]:
    """Over all videos, relative to ground truth as the same metric saw it."""

  def curves(self) -> dict[str, list]:
    """Name -> plain values to plot; empty where there is nothing to see."""
