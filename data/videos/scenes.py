"""Where a video cuts from one take to another.

A frame is the first of a scene if it differs from the one before far more than
its neighbours do from theirs: a head that moves fast differs for many frames, a
cut for one. Fades between scenes are not found.
"""

import cv2
import numpy as np

SIDE = 32  # pixels to which frames are reduced
MIN_DIFFERENCE = 5.0  # of 255, mean over pixels and channels
MIN_RATIO = 8.0  # to the mean of the neighbours
NEIGHBOURS = 2  # on each side


def reduce(rgb: np.ndarray) -> np.ndarray:
  """[SIDE, SIDE, 3] float32 of a frame [H, W, 3] uint8."""
  small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
  return small.astype(np.float32)


def find_cuts(differences: np.ndarray) -> list[int]:
  """Frames at which a new scene begins, without frame 0.

  Args:
    differences: [N] mean absolute difference of each reduced frame to the one
      before it, 0..255; the first is not read.
  """
  cuts = []
  for i in np.flatnonzero(differences > MIN_DIFFERENCE):
    before = differences[max(1, i - NEIGHBOURS):i]
    after = differences[i + 1:i + 1 + NEIGHBOURS]
    near = np.concatenate([before, after])
    if i and differences[i] > MIN_RATIO * (near.mean() if len(near) else 0.0):
      cuts.append(int(i))
  return cuts
