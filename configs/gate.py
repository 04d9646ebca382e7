"""Bounds that the bundled tiny checkpoint keeps, for continuous integration.

  asymtalker evaluate --bundle=tiny --data=DIR --clips=2 --out=DIR \
      --gate=configs/gate.py

Exit code 1 says that one of them is broken, and the output which. They stand
well below what docs/results/tiny and tiny_600s record (given in the comments):
a few seconds of two clips scatter, and a checkpoint that lost something of its
craft falls much further than that.
"""

import ml_collections


def get_config(bundle: str = 'tiny') -> ml_collections.ConfigDict:
  """Bounds of the figures over clips, and of those of the long video."""
  if bundle != 'tiny':
    raise ValueError(f"gate config {bundle!r}: expected 'tiny'")
  return ml_collections.ConfigDict({
      'clips': {
          'lip_sync': {'min': 0.5},  # 0.84
          'best_lag': {'min': -2.0, 'max': 2.0},  # 0
          'identity_relative': {'min': 0.85},  # 0.94
          'motion_amplitude': {'min': 0.45, 'max': 2.5},  # 0.78
          'psnr_still': {'min': 26.0},  # 31.2
          'lab_shift': {'max': 4.0},  # 0.6
          'frechet': {'max': 30.0},  # 5.4
      },
      # Read where --seconds asks for a long video.
      'long': {
          'identity_change': {'min': -0.1, 'max': 0.1},  # -0.010
          'lab_shift_last': {'max': 4.0},  # 0.04
          'lip_sync': {'min': 0.5},  # 0.82
      },
  })
