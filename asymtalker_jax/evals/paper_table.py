"""The table of the paper: method, FID, FVD, Sync-C, Sync-D, identity, FPS.

Rows that were published (published.json, from the papers of AsymTalker, arXiv
2605.02948, and SoulX-FlashHead) are marked so; they were measured elsewhere, on
other videos and hardware. One dict of rows becomes JSON, Markdown, LaTeX and
PNG.
"""

from collections.abc import Mapping, Sequence
import io
import json
import os
import pathlib
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
_FILE = pathlib.Path(__file__).parent / 'published.json'
_LATEX = str.maketrans({
    '&': r'\&', '%': r'\%', '_': r'\_', '#': r'\#', '$': r'\$', '{': r'\{',
    '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
    '\\': r'\textbackslash{}',
})  # pyformat: disable


def published(name: str) -> list[dict[str, Any]]:
  """Published rows of a data set.

  Raises:
    ValueError: unknown data set.
  """
  found = json.loads(_FILE.read_text())
  if name not in found:
    raise ValueError(f'--published={name}: expected one of {list(found)}')
  return [row | {'published': True} for row in found[name]['rows']]


def measured(method: str, figures: Mapping[str, float]) -> dict[str, Any]:
  """A row of ours from the figures of a system."""
  row = {'method': method, 'source': 'measured', 'published': False}
  for column, names in _FIGURES.items():
    values = [figures[name] for name in names if figures.get(name) is not None]
    if values and np.isfinite(values[0]):
      row[column] = values[0]
  return row


def _cells(row: Mapping[str, Any]) -> list[str]:
  return [
      f'{row[column]:.{digits}f}' if row.get(column) is not None else '-'
      for column, (_, _, digits) in COLUMNS.items()
  ]


def _origin(row: Mapping[str, Any]) -> str:
  return f'published ({row["source"]})' if row['published'] else 'measured'


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
  """The table as Markdown."""
  heads = ['method', *(head for head, _, _ in COLUMNS.values()), 'origin']
  lines = ['| ' + ' | '.join(heads) + ' |', '|' + '---|' * len(heads)]
  for row in rows:
    name = row['method'].replace('|', r'\|')
    name = name if row['published'] else f'**{name}**'
    lines.append('| ' + ' | '.join([name, *_cells(row), _origin(row)]) + ' |')
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
  lines += [
      r'\bottomrule',
      r'\multicolumn{' + str(len(COLUMNS) + 1)
      + r'}{l}{\footnotesize $^\dagger$ published} \\',
      r'\end{tabular}',
  ]
  return '\n'.join(lines) + '\n'


def png(rows: Sequence[Mapping[str, Any]]) -> bytes:
  """The table as a picture."""
  heads = ['method', *(head for head, _, _ in COLUMNS.values()), 'origin']
  cells = [[row['method'], *_cells(row), _origin(row)] for row in rows]
  figure = mpl_figure.Figure(figsize=(11, 0.6 + 0.3 * len(rows)))
  axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
  axes.set_axis_off()
  drawn = axes.table(
      cellText=cells, colLabels=heads, loc='center', cellLoc='right',
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
