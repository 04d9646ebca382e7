"""Several long videos on one page, from the folders of earlier runs."""

import json

import numpy as np
import pytest

from asymtalker_jax.evals import side_by_side
from asymtalker_jax.generate import media

CURVE = {
    'times': [5.0, 15.0], 'values': [1.0, None], 'slope': -0.25,
    'slope_interval': None, 'time_to_failure_s': 10.0,
}  # pyformat: disable


def earlier_run(folder, curves):
  """A run with a long video of 12 s."""
  folder.mkdir()
  with media.VideoWriter(folder / 'long.mp4', 32, 32) as file:
    file.write(np.zeros((300, 32, 32, 3), np.uint8))
  result = {
      'seconds': 12.0, 'video': 'long.mp4', 'curves': curves, 'person': 7,
      'figures': {'frames': 300.0, 'identity_first': 0.9}, 'window_s': 10.0,
      'protocol': {
          'distances': {'fid': '250 frames'},
          'networks': {'sync': 'SyncNet <2'},
      },
  }  # pyformat: disable
  values = {'figures': result['figures'], 'videos': [result]}
  (folder / 'metrics.json').write_text(json.dumps({'long': values}))


def test_runs_stand_beside_each_other_with_frames_to_click(tmp_path):
  earlier_run(tmp_path / 'a', {'identity': CURVE})
  earlier_run(tmp_path / 'b', {'identity': CURVE, 'only_b': CURVE})
  runs = [tmp_path / 'a', tmp_path / 'b']
  text = side_by_side.compare(runs, tmp_path / 'out')
  assert '| figure | target | a | b |' in text
  page = (tmp_path / 'out/drift.html').read_text()
  assert page.count('<video') == 2 and 'http' not in page
  # A frame every 10 s: at 0 and 10 s of each.
  assert page.count('<button data-t="0.00"') == 2
  assert page.count('<button data-t="10.00"') == 2
  assert page.count('<svg') == 2 and page.count('<polyline') == 3
  assert 'past its limit at 10 s' in page and '<td>-</td>' in page
  # Once, though both runs say it.
  assert page.count(
      '<p class="protocol">2 videos, windows of 10 s. fid: 250 frames. sync:'
      ' SyncNet &lt;2.</p>'
  ) == 1


def test_runs_on_other_data_are_told_apart(tmp_path):
  runs = {'a': ('x/hdtf.jsonl', ['n', 'm']), 'b': ('y/hdtf.jsonl', ['n'])}
  for name, (data, clips) in runs.items():
    truth = {'figures': {}, 'clips': [{'name': clip} for clip in clips]}
    values = {
        'flags': {'data': data, 'split': 'test', 'window_s': 9.0},
        'systems': {'gt': truth, 'peer': {'figures': {'fid': 1.0}}},
    }
    (tmp_path / name).mkdir()
    (tmp_path / name / 'metrics.json').write_text(json.dumps(values))
  both = [tmp_path / name for name in runs]
  text = side_by_side.compare(both, tmp_path / 'out', 'hdtf')
  assert text.endswith('- warning: clips are not the same: 2 in a, 1 in b\n')
  assert 'warning' not in side_by_side.compare(both[:1], tmp_path / 'c', 'hdtf')


def test_a_gap_is_a_gap_and_the_axis_is_that_of_the_video(tmp_path):
  lost = CURVE | {
      'times': [5.0, 15.0, 25.0, 35.0], 'values': [1.0, 0.9, None, 0.8],
      'slope': None,
  }  # pyformat: disable
  short = lost | {'values': [1.0, None, None, None]}
  earlier_run(tmp_path / 'a', {'identity': lost, 'sync': short})
  side_by_side.compare([tmp_path / 'a'], tmp_path / 'out')
  page = (tmp_path / 'out/drift.html').read_text()
  assert page.count('<polyline') == 3 and page.count('data-end="40.000"') == 2
  assert '<td>-, past its limit at 10 s</td>' in page and 'nan' not in page


def test_folders_that_cannot_be_compared_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='folder of an earlier run'):
    side_by_side.compare([tmp_path / 'none'], tmp_path)
  earlier_run(tmp_path / 'a', {})
  with pytest.raises(ValueError, match='different names'):
    side_by_side.compare([tmp_path / 'a'] * 2, tmp_path)
  (tmp_path / 'a/long.mp4').unlink()
  with pytest.raises(FileNotFoundError, match='long.mp4: no such video'):
    side_by_side.compare([tmp_path / 'a'], tmp_path)
  (tmp_path / 'a/metrics.json').write_text('{}')
  with pytest.raises(ValueError, match='no run with a long video'):
    side_by_side.compare([tmp_path / 'a'], tmp_path)
  (tmp_path / 'a/metrics.json').write_text('[]')
  with pytest.raises(ValueError, match='what `asymtalker evaluate` writes'):
    side_by_side.compare([tmp_path / 'a'], tmp_path)
  (tmp_path / 'a/metrics.json').write_text('{')
  with pytest.raises(ValueError, match='not JSON'):
    side_by_side.compare([tmp_path / 'a'], tmp_path)
