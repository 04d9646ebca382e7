"""The paper's table: published rows, ours, and their marks."""

import json

import numpy as np
from PIL import Image
import pytest

from asymtalker_jax.evals import paper_table


def test_published_rows_are_those_of_the_papers():
  # arXiv 2605.02948, tables on HDTF and VFHQ.
  for name, fid, fvd, sync_c, sync_d in (
      ('hdtf', 13.72, 116.78, 8.11, 7.25), ('vfhq', 23.25, 182.35, 6.41, 8.50)
  ):
    row = next(
        r for r in paper_table.published(name) if r['method'] == 'AsymTalker'
    )
    assert (row['fid'], row['fvd']) == (fid, fvd) and row['published']
    assert (row['sync_c'], row['sync_d']) == (sync_c, sync_d)
  with pytest.raises(ValueError, match="expected one of .*'hdtf'"):
    paper_table.published('celebv')


def test_ours_stand_below_and_are_told_apart(tmp_path):
  ours = paper_table.measured('ours_student 50%', {
      'fid': 12.345, 'fvd': np.nan, 'identity': 0.9, 'arcface': 0.8,
      'frames_per_s': 30.0,
  })  # pyformat: disable
  rows = paper_table.published('hdtf') + [ours]
  text = paper_table.write(tmp_path, rows)
  last = text.strip().splitlines()[-1]
  assert last == (
      '| **ours_student 50%** | 12.35 | - | - | - | 0.800 | 30.0 | measured |'
  )
  assert text.count('published (') == len(rows) - 1
  latex = (tmp_path / 'paper_table.tex').read_text()
  assert r'\textbf{ours\_student 50\%} & 12.35 & -' in latex
  assert latex.count(r'$^\dagger$ &') == len(rows) - 1
  assert json.loads((tmp_path / 'paper_table.json').read_text())['rows'][-1][
      'published'] is False
  assert Image.open(tmp_path / 'paper_table.png').size[0] > 1000
