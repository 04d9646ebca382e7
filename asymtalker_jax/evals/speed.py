"""Speed and memory, from generation reports."""

from collections.abc import Sequence

import numpy as np

KEYS = ('frames', 'wall_s', 'frames_per_s', 'first_frame_s', 'peak_rss_mb')


def summarise(reports: Sequence[dict]) -> dict[str, float]:
  """Over several reports: frames per second of all frames together, median
  latency of the first frame, largest memory.

  Args:
    reports: with the keys of `asymtalker generate --report`; wall_s does not
      count compile_s where that key is there.

  Raises:
    ValueError: no report, or one with a missing key.
  """
  if not reports:
    raise ValueError('0 generation reports: expected at least 1')
  for report in reports:
    missing = [key for key in KEYS if key not in report]
    if missing:
      raise ValueError(f'generation report without {missing}')
  frames = sum(report['frames'] for report in reports)
  return {
      'frames': float(frames),
      'frames_per_s': frames / sum(report['wall_s'] for report in reports),
      'first_frame_s': float(np.median([r['first_frame_s'] for r in reports])),
      'peak_rss_mb': float(max(report['peak_rss_mb'] for report in reports)),
  }
