"""Figures that need no network: PSNR, SSIM, colour, change between frames."""

from collections.abc import Iterable

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import fidelity
from asymtalker_jax.evals import motion


def _mean_psnr(errors: Iterable[float]) -> float:
  """Mean over videos of PSNR in dB; those without a figure are left out."""
  values = [fidelity.psnr(error) for error in errors if np.isfinite(error)]
  return float(np.mean(values)) if values else float('nan')


def _measure(frames: np.ndarray, truth: np.ndarray) -> dict[str, float]:
  """Figures of one video; of ground truth itself they are known."""
  mask = fidelity.still_mask(truth)
  row = {
      'squared_error': 0.0,
      'still_squared_error': 0.0 if mask.any() else np.nan,
      'still_share': float(mask.mean()),
      'ssim': 1.0,
      'lab_shift': 0.0,
      'energy': motion.frame_energy(frames),
  }
  if frames is truth:
    return row
  by_pixel = fidelity.squared_error(frames, truth)
  row['squared_error'] = float(by_pixel.mean())
  if mask.any():
    row['still_squared_error'] = float(by_pixel[mask].mean())
  row['ssim'] = fidelity.mean_ssim(frames, truth)
  colours = [drift.mean_colours(x).mean(axis=0) for x in (frames, truth)]
  row['lab_shift'] = float(np.linalg.norm(colours[0] - colours[1]))
  return row


class Pixels:
  """A `Metric`."""

  name = 'pixels'
  description = (
      'PSNR (of the squared error of a video, mean over videos), SSIM (luma of'
      f' one frame in {fidelity.SSIM_EVERY}) and mean colour against ground'
      ' truth'
  )
  dimension = 0
  warnings = ()

  def __init__(self):
    self._rows: dict[str, dict[str, float]] = {}

  @property
  def samples(self) -> int:
    return len(self._rows)

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """See `Metric`."""
    del image
    row = _measure(frames, clip.frames)
    self._rows[name] = row
    still = row['still_squared_error']
    return {
        'psnr': fidelity.psnr(row['squared_error']),
        'psnr_still': fidelity.psnr(still) if np.isfinite(still) else np.nan,
        'ssim': row['ssim'],
        'lab_shift': row['lab_shift'],
    }

  def figures(self, truth: 'Pixels') -> dict[str, float]:
    """See `Metric`."""
    column = lambda key: [row[key] for row in self._rows.values()]
    both = [name for name in self._rows if name in truth._rows]
    energies = [
        [side._rows[name]['energy'] for name in both] for side in (self, truth)
    ]
    moving = sum(energies[1]) > 0
    return {
        'frame_energy': motion.amplitude(*energies) if moving else np.nan,
        'psnr': _mean_psnr(column('squared_error')),
        'psnr_still': _mean_psnr(column('still_squared_error')),
        'still_share': float(np.mean(column('still_share'))),
        'ssim': float(np.mean(column('ssim'))),
        'lab_shift': float(np.mean(column('lab_shift'))),
    }

  def curves(self) -> dict[str, list]:
    """See `Metric`."""
    return {}
