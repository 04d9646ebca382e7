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
  *_, last, _, note = text.strip().splitlines()
  assert last == (
      '| **ours_student 50%** | 12.35 | - | - | - | 0.800 | 30.0 | measured |'
  )
  assert note == 'ours_student 50%: FID, identity: ArcFace'
  assert text.count('published (') == len(rows) - 1
  latex = (tmp_path / 'paper_table.tex').read_text()
  assert r'\textbf{ours\_student 50\%} & 12.35 & -' in latex
  assert latex.count(r'$^\dagger$ &') == len(rows) - 1
  assert json.loads((tmp_path / 'paper_table.json').read_text())['rows'][-1][
      'published'] is False
  assert Image.open(tmp_path / 'paper_table.png').size[0] > 1000


def test_published_numbers_are_printed_with_the_digits_they_had():
  text = paper_table.markdown(paper_table.published('hdtf'))
  assert '| Hallo3 | 15.95 | 160.94 | 3.18 | 10.72 | - | 0.16 |' in text
  assert '| EchoMimic | 9.00 | 155.71 | 3.56 | 10.22 | - | 0.81 |' in text
  streaming = '| FlashHead Pro, streaming | 9.97 | 111.38 | 5.73 | 8.77 | - |'
  assert f'{streaming} 10.81 |' in text
  assert '| AsymTalker | 13.72 | 116.78 | 8.11 | 7.25 | - | 66 |' in text
  assert '| 1.60 |' in paper_table.markdown(paper_table.published('vfhq'))


def test_notes_say_what_our_figures_rest_on(tmp_path):
  protocol = {
      'fid': {'description': 'Inception', 'samples': 4000},
      'fvd': {'description': 'I3D_x', 'samples': 250},
      'puppets': {'description': 'seen', 'samples': 4000},
      'pixels': {'description': 'PSNR', 'samples': 16},
  }
  figures = {'fid': 1.0, 'fvd': 2.0, 'identity': 0.9, 'videos': 16.0}
  rows = [
      paper_table.measured(name, figures, protocol) for name in ('a', 'b')
  ]
  more = protocol | {'arcface': {'description': 'cosine', 'samples': 15}}
  rows.append(paper_table.measured('c', figures | {'arcface': 0.8}, more))
  common = 'videos: 16, FID (4000 frames; Inception), FVD (250 windows; I3D_x),'
  expected = [
      f'a and b: {common} identity: puppet reader (4000 frames; seen)',
      f'c: {common} identity: ArcFace (15 videos; cosine)',
  ]
  assert paper_table.notes(rows) == expected
  text = paper_table.write(tmp_path, rows)
  assert text.endswith('\n\n' + '\n\n'.join(expected) + '\n')
  latex = (tmp_path / 'paper_table.tex').read_text()
  assert expected[0].replace('_', r'\_') in latex
  kept = json.loads((tmp_path / 'paper_table.json').read_text())['rows']
  assert kept[0]['note'] == expected[0].removeprefix('a and b: ')
  # In the picture two lines are below three rows.
  bare = [row | {'note': ''} for row in rows]
  (tmp_path / 'bare.png').write_bytes(paper_table.png(bare))
  heights = [
      Image.open(tmp_path / name).size[1]
      for name in ('paper_table.png', 'bare.png')
  ]
  assert heights[0] > heights[1] + 30
