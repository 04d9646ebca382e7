"""Reports: JSON, Markdown table, plots and contact sheets as files.

Every file is written to a temporary name in its folder and renamed.
"""

from collections.abc import Sequence
import io
import json
import math
import os
import pathlib
from typing import Any

from matplotlib import figure as mpl_figure
from matplotlib import ticker
import numpy as np

from asymtalker_jax import files
from asymtalker_jax.inputs import contact_sheet as sheets

# Figure -> (meaning, unit, goal of the bundled tiny student).
ROWS = {
    'fid': ('FID', '', ''),
    'fvd': ('FVD', '', ''),
    'sync_c': ('Sync-C', '', ''),
    'sync_d': ('Sync-D', '', ''),
    'arcface': ('identity similarity, ArcFace', '', ''),
    'lpips': ('LPIPS', '', ''),
    'blinks_per_min': ('blinks', '1/min', ''),
    'blinks': ('blinks that were counted', '', ''),
    'head_motion': ('head motion of landmarks / ground truth', '', ''),
    'yaw_std': ('standard deviation of yaw', 'degrees', ''),
    'pitch_std': ('standard deviation of pitch', 'degrees', ''),
    'lip_sync': ('lip-sync correlation at lag 0', '', '>= 0.8'),
    'best_lag': ('best lag', 'frames', '0 +- 1'),
    'lip_sync_at_best_lag': ('lip-sync correlation at best lag', '', ''),
    'lip_sync_worst_clip': ('lip-sync of the worst clip', '', ''),
    'identity': ('identity similarity to the reference', '', ''),
    'identity_relative': ('the same, relative to ground truth', '', '>= 0.9'),
    'motion_amplitude': ('head motion / ground truth', '', '0.7 .. 1.3'),
    'frame_energy': ('frame difference / ground truth', '', ''),
    'psnr_still': ('PSNR where nothing moves', 'dB', '>= 27'),
    'still_share': ('share of pixels that do not move', '', ''),
    'psnr': ('PSNR, whole frame', 'dB', ''),
    'ssim': ('SSIM', '', ''),
    'lab_shift': ('mean colour shift', 'Lab', ''),
    'frechet': ('Frechet distance, reader features', '', ''),
    'kid': ('KID, reader features', '', ''),
    'frames_per_s': ('speed of generation, without encoding', 'frames/s', ''),
    'first_frame_s': ('latency of the first frame', 's', ''),
    'peak_rss_mb': ('peak memory', 'MB', ''),
    'videos': ('videos', '', ''),
}
LONG_ROWS = {
    'frames': ('frames', '', ''),
    'identity_first': ('identity similarity, first window', '', ''),
    'identity_last': ('identity similarity, last window', '', ''),
    'identity_change': ('relative change', '', 'within 0.03'),
    'identity_slope_per_min': ('slope of identity similarity', '1/min', ''),
    'identity_slope_interval': ('95 % half width of the slope', '1/min', ''),
    'identity_slope_first_min': ('slope over the first 60 s', '1/min', ''),
    'lab_shift_last': ('colour shift, last against first window', 'Lab', '< 2'),
    'motion_last_over_first': ('head motion, last / first window', '', ''),
    'lip_sync': ('lip-sync correlation at lag 0', '', ''),
    'best_lag': ('best lag', 'frames', '0 +- 1'),
    'lip_sync_first': ('lip-sync, first window', '', ''),
    'lip_sync_last': ('lip-sync, last window', '', ''),
    'frechet_first': ('Frechet distance to ground truth, first window', '', ''),
    'frechet_last': ('the same, last window', '', ''),
    'sync_c': ('Sync-C, mean of windows', '', ''),
    'sync_c_first': ('Sync-C, first window', '', ''),
    'sync_c_last': ('Sync-C, last window', '', ''),
    'sync_d': ('Sync-D, mean of windows', '', ''),
    'sync_d_first': ('Sync-D, first window', '', ''),
    'sync_d_last': ('Sync-D, last window', '', ''),
    'fid_first': ('FID, first window', '', ''),
    'fid_last': ('FID, last window', '', ''),
    'fvd_first': ('FVD, first window', '', ''),
    'fvd_last': ('FVD, last window', '', ''),
    'face_share': ('share of the windows in which a face is seen', '', ''),
    'blinks_per_min': ('blinks', '1/min', ''),
    'within_limits_s': ('time until a limit is passed, at most all', 's', ''),
    'within_limits': ('share of videos that pass none of them', '', ''),
    'memory_growth': ('memory, last / first minute - 1', '', 'within 0.05'),
    'frames_per_s': ('speed of generation, without encoding', 'frames/s', ''),
}


def write_bytes(path: str | os.PathLike, content: bytes) -> pathlib.Path:
  """Writes a file whole or not at all, in a folder that is made for it."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  return files.write(path, content)


def finite(value):
  """`value` with every float that is not finite as None: JSON has no NaN."""
  if isinstance(value, dict):
    return {key: finite(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [finite(item) for item in value]
  if isinstance(value, (float, np.floating)):
    return float(value) if math.isfinite(value) else None
  return value


def write_json(path: str | os.PathLike, values: dict) -> pathlib.Path:
  """Writes plain values; what is not finite becomes null."""
  text = json.dumps(finite(values), indent=1, allow_nan=False)
  return write_bytes(path, text.encode() + b'\n')


def _number(value: float | None) -> str:
  """Four significant digits; a dash where there is no figure."""
  if value is None or not math.isfinite(value):
    return '-'
  if value == int(value) and abs(value) < 1e6:
    return str(int(value))
  return f'{value:.4g}' if abs(value) >= 1e-3 else f'{value:.1e}'


def table(
    columns: dict[str, dict[str, float]], rows: dict[str, tuple] | None = None
) -> str:
  """A Markdown table.

  Args:
    columns: name -> figures.
    rows: figure -> (meaning, unit, target); rows without a figure in any
      column are left out. Default: ROWS.
  """
  lines = ['| figure | target | ' + ' | '.join(columns) + ' |']
  lines.append('|---|---|' + '---|' * len(columns))
  for key, (meaning, unit, target) in (rows or ROWS).items():
    cells = [_number(figures.get(key)) for figures in columns.values()]
    if all(cell == '-' for cell in cells):
      continue
    label = f'{meaning} [{unit}]' if unit else meaning
    lines.append(f'| {label} | {target} | ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines) + '\n'


def _save_figure(
    path: str | os.PathLike, figure: mpl_figure.Figure
) -> pathlib.Path:
  """Writes a figure as PNG."""
  content = io.BytesIO()
  figure.savefig(content, format='png', dpi=110)
  return write_bytes(path, content.getvalue())


def plot_lines(
    path: str | os.PathLike, panels: Sequence[dict], columns: int = 2
) -> pathlib.Path:
  """Line plots as one PNG.

  Args:
    path: of the PNG.
    panels: each {'title', 'x_label', 'lines': name -> (x, y)}.
    columns: panels per row.
  """
  columns = min(columns, len(panels))
  rows = -(-len(panels) // columns)
  figure = mpl_figure.Figure(
      figsize=(5.2 * columns, 3.2 * rows), layout='constrained'
  )
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for axis, panel in zip(axes, panels):
    for name, (x, y) in panel['lines'].items():
      axis.plot(x, y, label=name, linewidth=1.3)
    axis.set_title(panel['title'], fontsize=10)
    axis.set_xlabel(panel['x_label'], fontsize=9)
    axis.grid(alpha=0.3)
    if len(panel['lines']) > 1:
      axis.legend(fontsize=8)
  for axis in axes[len(panels) :]:
    axis.set_visible(False)
  return _save_figure(path, figure)


def plot_intervals(
    path: str | os.PathLike, panels: Sequence[dict], columns: int = 3
) -> pathlib.Path:
  """Means with their intervals as one PNG.

  Args:
    path: of the PNG.
    panels: each {'title', 'bars': name -> {'mean', 'interval', 'values': seed
      -> value}}; values are dots beside the mean.
    columns: panels per row.
  """
  columns = min(columns, len(panels))
  rows = -(-len(panels) // columns)
  names = list(panels[0]['bars'])
  figure = mpl_figure.Figure(
      figsize=(4.6 * columns, (1.1 + 0.42 * len(names)) * rows),
      layout='constrained',
  )
  axes = figure.subplots(rows, columns, squeeze=False)
  for axis, panel in zip(axes.ravel(), panels):
    for place, found in enumerate(panel['bars'].values()):
      dots = [v for v in found['values'].values() if v is not None]
      axis.plot(dots, [place] * len(dots), 'o', color='#8993a4', markersize=4)
      half = found['interval'] if math.isfinite(found['interval']) else 0.0
      if dots:
        axis.errorbar(found['mean'], place, xerr=half, fmt='D', capsize=4)
    axis.set_title(panel['title'], fontsize=10)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axis.grid(alpha=0.3, axis='x')
  for axis in axes[:, 1:].ravel():
    axis.set_yticklabels([])
  for axis in axes.ravel()[len(panels) :]:
    axis.set_visible(False)
  return _save_figure(path, figure)


def clip_panels(results: dict[str, dict]) -> list[dict]:
  """Panels for `plot_lines` from the results of `protocol.run`; none where no
  metric has curves."""
  panels = []
  for x, y, title, label in (
      ('lags', 'lip_sync', 'lip-sync correlation',
       'lag, frames (positive: mouth is late)'),
      ('times', 'identity', 'identity similarity to the reference', 'time, s'),
      ('fid_times', 'fid', 'FID by windows', 'time, s'),
      ('fvd_times', 'fvd', 'FVD by windows', 'time, s')):  # pyformat: disable
    lines = {
        name: (result['curves'][x], result['curves'][y])
        for name, result in results.items()
        if y in result['curves']
    }
    if lines:
      panels.append({'title': title, 'x_label': label, 'lines': lines})
  return panels


def long_panels(curves: dict[str, dict[str, dict]]) -> list[dict]:
  """Panels for `plot_lines` from the curves of long videos.

  Args:
    curves: video -> the curves of `long_run.summarise`.
  """
  names = dict.fromkeys(name for of_one in curves.values() for name in of_one)
  return [
      {
          'title': name.replace('_', ' '),
          'x_label': 'time, s',
          'lines': {
              video: (of_one[name]['times'], of_one[name]['values'])
              for video, of_one in curves.items()
              if name in of_one
          },
      }
      for name in names
  ]


def protocol_lines(results: dict[str, Any]) -> str:
  """How many samples each group of figures rests on, and warnings; Markdown.

  Args:
    results: name -> `protocol.Result`.
  """
  protocols = [result.protocol for result in results.values()]
  described = {
      metric: how['description']
      for protocol in protocols
      for metric, how in protocol.items()
  }
  lines = []
  for metric, description in described.items():
    # A system without any sample has no figures of the metric.
    counts = [p[metric]['samples'] if metric in p else 0 for p in protocols]
    text = f'{counts[0]} samples of each of {", ".join(results)}'
    if len(set(counts)) > 1:
      text = 'samples: ' + ', '.join(
          f'{count} of {name}' for name, count in zip(results, counts)
      )
    lines.append(f'- {metric}: {description}; {text}')
  for name, result in results.items():
    lines += [f'- warning, {name}: {text}' for text in result.warnings]
  return '\n'.join(lines) + '\n'


def failure_lines(failures: Sequence[dict]) -> str:
  """What could not be measured, one line each; Markdown."""
  lines = [f'{len(failures)} failures:', '']
  for row in failures:
    of = f', {row["metric"]}' if 'metric' in row else ''
    lines.append(f'- {row["system"]}{of}: {row["video"]}: {row["reason"]}')
  return '\n'.join(lines) + '\n'


def contact_sheet(
    path: str | os.PathLike, rows: Sequence[np.ndarray], frames: int = 10
) -> pathlib.Path:
  """Rows of frames as one PNG.

  Args:
    path: of the PNG.
    rows: each [n, H, W, 3] uint8; evenly spread frames of each are shown.
    frames: at most this many per row.
  """
  width = min(frames, min(len(row) for row in rows))
  spread = [sheets.spread(row, width) for row in rows]
  return write_bytes(path, sheets.png(sheets.picture(spread)))
