"""Curves of a run as PNG, from its JSON lines."""

import os
import re
from typing import Any, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from asymtalker_jax.train import metrics


DRIFT = 'eval/latent_error_chunk'  # Metric of a student, then the chunk.


def plot_run(workdir: str) -> None:
  """Draws what there is of a run: its curves and, of a student, its drift."""
  if not os.path.exists(os.path.join(workdir, metrics.FILE)):
    return
  keys = {k for line in metrics.read(workdir) for k in line}
  if any(not k.startswith('time/') for k in keys - {'step'}):
    plot_curves(workdir)
  if f'{DRIFT}0' in keys:
    plot_rollout_drift(workdir)


def plot_curves(
    workdir: str, keys: Sequence[str] | None = None, name: str = 'curves.png'
) -> str:
  """Draws one panel per metric over the step; returns the path of the PNG.

  Args:
    workdir: folder of a run.
    keys: which metrics; all but timings when None.
    name: of the file in `workdir`.

  Raises:
    FileNotFoundError: no metrics there.
    ValueError: an unknown metric, or nothing to draw.
  """
  lines = metrics.read(workdir)
  found = sorted({k for line in lines for k in line if k != 'step'})
  if keys is None:
    keys = [k for k in found if not k.startswith('time/')]
  unknown = [k for k in keys if k not in found]
  if unknown or not keys:
    raise ValueError(f'{workdir}: no metrics {unknown}, found {found}')
  columns = min(3, len(keys))
  rows = -(-len(keys) // columns)
  figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout='constrained')
  for i, key in enumerate(keys):
    axes = figure.add_subplot(rows, columns, i + 1)
    points = [(line['step'], line[key]) for line in lines if key in line]
    steps, values = np.array(points).T
    axes.plot(steps, values, color='tab:blue', alpha=0.35, linewidth=0.8)
    axes.plot(steps, smooth(values), color='tab:blue', linewidth=1.5)
    axes.set_title(key, fontsize=9)
    axes.grid(alpha=0.3)
    # Losses fall over decades; a linear axis would show the first steps only.
    if values.min() > 0 and values.max() > 20 * values.min():
      axes.set_yscale('log')
  return _save(figure, os.path.join(workdir, name))


def plot_rollout_drift(
    workdir: str,
    prefix: str = DRIFT,
    name: str = 'drift.png',
) -> str:
  """Draws metrics `prefix + chunk number` over chunks, one line per step.

  Drift shows as a slope; training should flatten it.

  Args:
    workdir: folder of a run.
    prefix: of the metric names; a chunk number follows.
    name: of the file in `workdir`.

  Raises:
    FileNotFoundError: no metrics there.
    ValueError: no such metrics.
  """
  curves = []
  for line in metrics.read(workdir):
    chunks = sorted(
        (int(k[len(prefix):]), v)
        for k, v in line.items()
        if re.fullmatch(re.escape(prefix) + r'\d+', k)
    )
    if chunks:
      curves.append((line['step'], chunks))
  if not curves:
    raise ValueError(f'{workdir}: no metrics named {prefix}0, {prefix}1, ...')
  picked = np.unique(np.linspace(0, len(curves) - 1, 8).round().astype(int))
  figure = Figure(figsize=(6, 4), layout='constrained')
  axes = figure.add_subplot()
  for i, index in enumerate(picked):
    step, chunks = curves[index]
    shade = 0.85 * (1 - i / max(1, len(picked) - 1))
    x, y = zip(*chunks)
    axes.plot(x, y, 'o-', color=(shade, shade, 1.0 - 0.3 * (1 - shade)),
              label=f'step {step:g}')
  axes.set_xlabel('chunk')
  axes.set_ylabel(prefix.rstrip('/'))
  axes.grid(alpha=0.3)
  axes.legend(fontsize=8)
  return _save(figure, os.path.join(workdir, name))


def smooth(values: np.ndarray) -> np.ndarray:
  """Returns the running mean over about a twentieth of the curve."""
  width = max(1, len(values) // 20)
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - width)
  return (sums[ends] - sums[starts]) / (ends - starts)


def _save(figure: Any, path: str) -> str:
  FigureCanvasAgg(figure)
  figure.savefig(path + '.tmp', format='png', dpi=110)
  os.replace(path + '.tmp', path)
  return path
