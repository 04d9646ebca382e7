"""Motion amplitude relative to ground truth: a still head is stable but wrong.

  pose amplitude  = sqrt(sum over clips (var yaw + var pitch))             (1)
  frame energy    = mean (x_t - x_{t-1})^2                                 (2)

Both are reported as generated / ground truth; the variances are summed before
the ratio is taken, so that one calm ground-truth clip does not dominate.
"""

from collections.abc import Sequence

import numpy as np


def pose_variance(tracks: dict[str, np.ndarray]) -> float:
  """var yaw + var pitch of one video's tracks, [N] each."""
  return float(np.var(tracks['yaw']) + np.var(tracks['pitch']))


def frame_energy(frames: np.ndarray) -> float:
  """Equation (2) of frames [N, H, W, 3] uint8, in grey levels squared."""
  total = 0.0
  for last, frame in zip(frames[:-1], frames[1:]):
    step = frame.astype(np.float32) - last
    total += float(np.mean(step * step))
  return total / max(len(frames) - 1, 1)


def amplitude(generated: Sequence[float], truth: Sequence[float]) -> float:
  """sqrt of summed squares' ratio: of pose variances or frame energies, one
  per clip; 1 where generated videos move as much as ground truth.

  Raises:
    ValueError: ground truth that does not move.
  """
  reference = float(np.sum(truth))
  if reference <= 0:
    raise ValueError(
        'ground truth without any motion: motion amplitude needs some'
    )
  return float(np.sqrt(np.sum(generated) / reference))
