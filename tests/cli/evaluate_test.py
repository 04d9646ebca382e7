"""`asymtalker evaluate` on synthetic clips with random weights."""

import json

import jax
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.cli import main
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.inputs import source
from asymtalker_jax.models.metric import puppet_reader
from tests.evals import tiny_bundle

FRAMES = 36
READER = dict(
    tracks=['mouth', 'yaw', 'pitch', 'blink'], embedding=8, widths=[8, 8, 8],
    features=8, size=32, track_mean=[0.0] * 4, track_std=[1.0] * 4,
)


def _clip(seed):
  rng = np.random.default_rng(seed)
  side = tiny_bundle.SIZE
  frames = np.full((FRAMES, side, side, 3), 90 + seed, np.uint8)
  mouth = rng.random(FRAMES).astype(np.float32)
  frames[:, 8:16, 8:16] = (255 * mouth[:, None, None, None]).astype(np.uint8)
  return types.Clip(
      frames=frames, identity=seed, tracks={'mouth': mouth},
      waveform=rng.normal(0, 0.1, 640 * FRAMES).astype(np.float32),
  )


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models')
  tiny_bundle.write(folder / 'bundle')
  params = jax.jit(lambda key: puppet_reader.init(READER, key))(
      jax.random.key(0)
  )
  reader_lib.save(folder / 'reader', READER, params)
  return folder


@pytest.fixture
def run(models, tmp_path, monkeypatch):
  """Runs the verb with more flags; writes to tmp_path."""
  clips = [_clip(seed) for seed in range(3)]
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  return lambda *more: main.main([
      'evaluate', f'--bundle={models}/bundle', '--data=clips',
      f'--out={tmp_path}', f'--reader={models}/reader', *more,
  ])


def test_clips_and_a_long_video_are_scored(run, tmp_path, capsys):
  assert run('--clips=2', '--seconds=4', '--steps=1') == 0
  printed = capsys.readouterr().out
  assert '| figure | target | gt | vae | student |' in printed
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  assert set(metrics['systems']) == {'gt', 'vae', 'student'}
  assert metrics['systems']['gt']['figures']['psnr'] == 100.0
  assert metrics['long']['figures']['frames'] == 100
  assert {p.name for p in tmp_path.iterdir()} == {
      'metrics.json', 'table.md', 'curves.png', 'frames.png', 'drift.png',
      'drift_frames.png',
  }


@pytest.mark.parametrize('flag, message', [
    ('--clips=9', 'clips=9'),
    ('--clips=-1', 'clips'),
    ('--role=critic', 'student|teacher'),
    ('--guidance=2', 'a student has none'),
])
def test_wrong_values_are_one_line(run, capsys, flag, message):
  clips = () if 'clips' in flag else ('--clips=1',)
  assert run(flag, *clips) == 2
  error = capsys.readouterr().err.strip()
  assert message in error and '\n' not in error


def test_missing_flags_are_named(capsys):
  assert main.main(['evaluate', '--bundle=tiny']) == 2
  assert '--data' in capsys.readouterr().err
