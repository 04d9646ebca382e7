"""Fidelity to ground-truth frames: PSNR, PSNR where nothing moves, SSIM.

Head motion is the generator's own, so the whole-frame figures have a ceiling;
regions that stand still in the ground truth must stay as they are.
"""

import numpy as np
from scipy import ndimage

PEAK = 255.0
STILL_RANGE = 8
SSIM_EVERY = 5


def still_mask(truth: np.ndarray, threshold: int = STILL_RANGE) -> np.ndarray:
  """[H, W] bool, True where no channel of ground truth ranges over more than
  `threshold` grey levels during the clip.

  Args:
    truth: [N, H, W, 3] uint8.
    threshold: grey levels, max - min over time.
  """
  span = truth.max(axis=0).astype(int) - truth.min(axis=0)
  return (span <= threshold).all(axis=-1)


def psnr(error: float) -> float:
  """PSNR in dB of a mean squared error in grey levels squared; at most 100."""
  return float(10.0 * np.log10(PEAK**2 / max(error, PEAK**2 * 1e-10)))


def squared_error(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """[H, W] mean squared error over frames [N, H, W, 3] uint8 and channels.

  Raises:
    ValueError: different shapes.
  """
  if frames.shape != truth.shape:
    raise ValueError(
        f'frames {frames.shape}: expected the shape of ground truth '
        f'{truth.shape}'
    )
  total = np.zeros(frames.shape[1:], np.int64)
  for frame, target in zip(frames, truth):
    step = frame.astype(np.int32) - target
    total += step * step
  return total.mean(axis=-1) / len(frames)


def _blur(x: np.ndarray) -> np.ndarray:
  """Gaussian window of SSIM, sigma 1.5, 11 taps, over H and W."""
  x = ndimage.gaussian_filter1d(x, 1.5, axis=0, radius=5)
  return ndimage.gaussian_filter1d(x, 1.5, axis=1, radius=5)


def luma(frame: np.ndarray) -> np.ndarray:
  """[H, W] float32 grey levels of a frame [H, W, 3] (BT.601 weights)."""
  return frame.astype(np.float32) @ np.float32([0.299, 0.587, 0.114])


def ssim(frame: np.ndarray, target: np.ndarray) -> float:
  """Structural similarity of two frames [H, W, 3] uint8, on luma.

  Wang et al. 2004: 11x11 Gaussian window, K = (0.01, 0.03), borders of 5
  pixels left out.
  """
  x, y = luma(frame), luma(target)
  c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
  mean_x, mean_y = _blur(x), _blur(y)
  var_x = _blur(x * x) - mean_x**2
  var_y = _blur(y * y) - mean_y**2
  covariance = _blur(x * y) - mean_x * mean_y
  value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
  value /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
  return float(value[5:-5, 5:-5].mean())


def mean_ssim(frames: np.ndarray, truth: np.ndarray) -> float:
  """Mean `ssim` over one frame in SSIM_EVERY."""
  pairs = zip(frames[::SSIM_EVERY], truth[::SSIM_EVERY])
  return float(np.mean([ssim(frame, target) for frame, target in pairs]))
