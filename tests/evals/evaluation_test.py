"""Pieces of a report that must survive a system without figures."""

import types

import numpy as np

from asymtalker_jax.evals import evaluation
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import report


def test_roles_without_a_common_figure_do_not_lose_the_run():
  metrics = {}
  figures = {'student': {'frames_per_s': 9.0}, 'teacher': {'lip_sync': 0.5}}
  text = evaluation._compare_roles(figures, metrics)
  assert 'not compared' in text and 'expected frames_per_s' in text
  assert metrics == {}


def test_what_was_resampled_is_in_the_warnings():
  results = {'gt': protocol.Result(), 'peer': protocol.Result()}
  folder = types.SimpleNamespace(rates={'a.mp4': 30.0, 'b.mp4': 24.0})
  evaluation._note_rates(results, {'gt': object(), 'peer': folder})
  assert results['gt'].warnings == []
  line, = results['peer'].warnings
  assert line.startswith('peer: ') and '2, such as a.mp4 of 30.00' in line


def test_the_sheet_pairs_videos_by_name(monkeypatch):
  rows = lambda **n: protocol.Result(
      thumbnails={k: np.full((1, 2, 2, 3), v, np.uint8) for k, v in n.items()},
      clips=[{}],
  )
  shown = []
  monkeypatch.setattr(
      report, 'contact_sheet', lambda path, rows: shown.extend(rows)
  )
  results = {
      'gt': rows(a=0, b=1, c=2), 'vae': rows(a=9), 'student': rows(b=11, c=12),
  }  # pyformat: disable
  evaluation._write_sheet('unused', results)
  assert [int(row.max()) for row in shown] == [1, 11, 2, 12]
