"""The table of the paper: method, FID, FVD, Sync-C, Sync-D, identity, FPS.

Rows that were published (published.json, from the papers of AsymTalker, arXiv
2605.02948, and SoulX-FlashHead) are marked so; they were measured elsewhere, on
other videos and hardware, and their numbers are printed as they were. A note
below says what ours rest on. One dict of rows becomes JSON, Markdown, LaTeX and
PNG.
"""

from collections.abc import Mapping, Sequence
import io
import json
import os
import pathlib
import textwrap
from typing import Any

from matplotlib import figure as mpl_figure
import numpy as np

from asymtalker_jax.evals import report

# Column -> (header, LaTeX header, decimals).
COLUMNS = {
    'fid': ('FID', r'FID$\downarrow$', 2),
    'fvd': ('FVD', r'FVD$\downarrow$', 2),
    'sync_c': ('Sync-C', r'Sync-C$\uparrow$', 2),
    'sync_d': ('Sync-D', r'Sync-D$\downarrow$', 2),
    'identity': ('identity', r'identity$\uparrow$', 3),
    'fps': ('FPS', r'FPS$\uparrow$', 1),
}
# Ours -> the table's, the first that was measured.
_FIGURES = {
    'fid': ('fid',), 'fvd': ('fvd',), 'sync_c': ('sync_c',),
    'sync_d': ('sync_d',), 'identity': ('arcface', 'identity'),
    'fps': ('frames_per_s',),
}  # pyformat: disable
# Figure -> (metric that gives it, its name in a note, what its samples are).
_METRICS = {
    'fid': ('fid', 'FID', 'frames'),
    'fvd': ('fvd', 'FVD', 'windows'),
    'sync_c': ('sync', 'Sync-C and Sync-D', 'videos'),
    'arcface': ('arcface', 'identity: ArcFace', 'videos'),
    'identity': ('puppets', 'identity: puppet reader', 'frames'),
}
_NOTE_WIDTH = 190  # characters of a line in the PNG
_FILE = pathlib.Path(__file__).parent / 'published.json'
_LATEX = str.maketrans({
    '&': r'\&', '%': r'\%', '_': r'\_', '#': r'\#', '$': r'\$', '{': r'\{',
    '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
    '\\': r'\textbackslash{}',
})  # pyformat: disable


class _Published(float):
  """A number that is printed as it was published, with all its digits."""

  def __new__(cls, digits: str):
    value = super().__new__(cls, digits)
    value._digits = digits
    return value

  def __str__(self) -> str:
    return self._digits


def published(name: str) -> list[dict[str, Any]]:
  """Published rows of a data set.

  Raises:
    ValueError: unknown data set.
  """
  found = json.loads(
      _FILE.read_text(), parse_float=_Published, parse_int=_Published
  )
  if name not in found:
    raise ValueError(f'--published={name}: expected one of {list(found)}')
  return [row | {'published': True} for row in found[name]['rows']]


def measured(
    method: str,
    figures: Mapping[str, float],
    protocol: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
  """A row of ours.

  Args:
    method: its name.
    figures: of a system.
    protocol: metric -> {'description', 'samples'}, as `protocol.Result` has it.
  """
  row = {'method': method, 'source': 'measured', 'published': False}
  used = []
  for column, names in _FIGURES.items():
    known = [name for name in names if figures.get(name) is not None]
    if known and np.isfinite(figures[known[0]]):
      row[column] = figures[known[0]]
      used.append(known[0])
  row['note'] = _note(figures, used, protocol or {})
  return row


def _note(
    figures: Mapping[str, float],
    used: Sequence[str],
    protocol: Mapping[str, Mapping[str, Any]],
) -> str:
  """What the figures of a row rest on: videos, samples, networks."""
  parts = []
  if figures.get('videos') is not None:
    parts.append(f'videos: {figures["videos"]:.0f}')
  for name in used:
    if name not in _METRICS:
      continue
    metric, label, unit = _METRICS[name]
    how = protocol.get(metric)
    rest = f' ({how["samples"]} {unit}; {how["description"]})' if how else ''
    parts.append(label + rest)
  return ', '.join(parts)


def notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """A line for rows of ours that rest on the same."""
  methods: dict[str, list[str]] = {}
  for row in rows:
    if row.get('note'):
      methods.setdefault(row['note'], []).append(row['method'])
  return [f'{" and ".join(names)}: {note}' for note, names in methods.items()]


def _cells(row: Mapping[str, Any]) -> list[str]:
  cells = []
  for column, (_, _, digits) in COLUMNS.items():
    value = row.get(column)
    if value is None:
      cells.append('-')
    else:
      cells.append(str(value) if row['published'] else f'{value:.{digits}f}')
  return cells


def _origin(row: Mapping[str, Any]) -> str:
  return f'published ({row["source"]})' if row['published'] else 'measured'


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """The table as Markdown, with notes below."""
  heads = ['method', *(head for head, _, _ in COLUMNS.values()), 'origin']
  lines = ['| ' + ' | '.join(heads) + ' |', '|' + '---|' * len(heads)]
  for row in rows:
    name = row['method'].replace('|', r'\|')
    name = name if row['published'] else f'**{name}**'
    lines.append('| ' + ' | '.join([name, *_cells(row), _origin(row)]) + ' |')
  for note in notes(rows):
    lines += ['', note]
  return '\n'.join(lines) + '\n'


def latex(rows: Sequence[Mapping[str, Any]]) -> str:
  """The table as LaTeX for the package booktabs; a dagger marks published."""
  heads = ' & '.join(head for _, head, _ in COLUMNS.values())
  lines = [
      r'\begin{tabular}{l' + 'r' * len(COLUMNS) + '}',
      r'\toprule',
      rf'method & {heads} \\',
      r'\midrule',
  ]
  for index, row in enumerate(rows):
    if index and row['published'] != rows[index - 1]['published']:
      lines.append(r'\midrule')
    name = row['method'].translate(_LATEX)
    name = rf'{name}$^\dagger$' if row['published'] else rf'\textbf{{{name}}}'
    lines.append(' & '.join([name, *_cells(row)]) + r' \\')
  width = len(COLUMNS) + 1
  lines += [
      r'\bottomrule',
      rf'\multicolumn{{{width}}}{{l}}{{\footnotesize $^\dagger$ published}} \\',
  ]
  for note in notes(rows):
    text = rf'\footnotesize {note.translate(_LATEX)}'
    lines.append(
        rf'\multicolumn{{{width}}}{{p{{\linewidth}}}}{{{text}}} \\'
    )
  lines.append(r'\end{tabular}')
  return '\n'.join(lines) + '\n'


def png(rows: Sequence[Mapping[str, Any]]) -> bytes:
  """The table as a picture, with notes below."""
  heads = ['method', *(head for head, _, _ in COLUMNS.values()), 'origin']
  cells = [[row['method'], *_cells(row), _origin(row)] for row in rows]
  text = '\n'.join(textwrap.fill(line, _NOTE_WIDTH) for line in notes(rows))
  below = 0.16 * len(text.splitlines()) + 0.1  # inches
  height = 0.22 * (len(rows) + 1) + 0.1 + below
  figure = mpl_figure.Figure(figsize=(11, height))
  figure.text(0.01, 0.05 / height, text, fontsize=8, parse_math=False)
  axes = figure.add_axes((0.01, below / height, 0.98, 0.99 - below / height))
  axes.set_axis_off()
  drawn = axes.table(
      cellText=cells, colLabels=heads, loc='lower center', cellLoc='right',
      colWidths=[0.3, *[0.085] * len(COLUMNS), 0.19],
  )
  drawn.auto_set_font_size(False)
  drawn.set_fontsize(9)
  drawn.scale(1, 1.3)
  for (line, column), cell in drawn.get_celld().items():
    cell.set_edgecolor('#dddddd')
    if column == 0:
      cell.set_text_props(ha='left')
    if not line or not rows[line - 1]['published']:
      cell.set_text_props(weight='bold')
  content = io.BytesIO()
  figure.savefig(content, format='png', dpi=130)
  return content.getvalue()


def write(folder: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> str:
  """Writes paper_table.json, .md, .tex and .png; returns the Markdown."""
  folder = pathlib.Path(folder)
  report.write_json(folder / 'paper_table.json', {'rows': list(rows)})
  text = markdown(rows)
  report.write_bytes(folder / 'paper_table.md', text.encode())
  report.write_bytes(folder / 'paper_table.tex', latex(rows).encode())
  report.write_bytes(folder / 'paper_table.png', png(rows))
  return text
