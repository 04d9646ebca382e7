"""A sweep of two points from data to table, killed on its way and resumed."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from asymtalker_jax.cli import main as cli
from asymtalker_jax.train import teacher
from tests.evals import tiny_bundle

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = f'''
import ml_collections

def get_config():
  """Expects a teacher in BUNDLE."""
  return ml_collections.ConfigDict({{
      'name': 'small',
      'seeds': (0, 1),
      'shared': (
          ('puppets', 'data build --out={{puppets}} --clips_train=3'
           ' --clips_test=2 --frames=40 --size={tiny_bundle.SIZE} --workers=0'),
          ('latents', 'data encode --config={ROOT}/configs/encode.py:micro'
           ' --config.windows=2 --data={{puppets}} --vae=BUNDLE'
           ' --out={{latents}}'),
      ),
      'stages': (
          ('student', 'train-student --config={ROOT}/configs/student.py:micro'
           ' --data={{latents}} --teacher=BUNDLE --workdir={{student}}'
           ' --config.steps=6 --config.chunks=2 --config.batch_size=2'
           ' --config.save_every_minutes=0.001 --config.log_every=1'
           ' --config.optimizer.warmup_steps=0 --config.seed={{seed}}'
           ' --config.continuity_carry=latent --config.remat=none'),
          ('evaluation', 'evaluate --bundle={{student}}/bundle --clips=1'
           ' --data={{puppets}} --out={{evaluation}} --seconds=2 --window_s=1'),
      ),
      'arms': (('method',),),
      'figures': (
          ('drift', 'near 0', 'long.figures.identity_change'),
          ('SSIM', 'higher', 'systems.student.figures.ssim'),
      ),
  }})
'''


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
  """Config of a sweep."""
  pytest.importorskip('espeakng_loader')
  folder = tmp_path_factory.mktemp('sweep')
  tiny_bundle.write(folder / 'bundle')
  path = folder / 'small.py'
  path.write_text(SWEEP.replace('BUNDLE', str(folder / 'bundle')))
  return path


def words(path, out, *more):
  return ['sweep', f'--config={path}', f'--out={out}', *more]


def kill_when(process, reached, seconds=300):
  """Kills a process when `reached()`, or finds that it has ended."""
  end = time.monotonic() + seconds
  while not reached() and process.poll() is None and time.monotonic() < end:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()


def start(sweep, out):
  """A sweep in a process of its own; what it prints goes to OUT/printed."""
  out.mkdir(exist_ok=True)
  with open(out / 'printed', 'w') as printed:
    return subprocess.Popen(
        [sys.executable, '-m', 'asymtalker_jax.cli.main', *words(sweep, out)],
        cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT,
    )  # pyformat: disable


def test_a_killed_sweep_goes_on_and_gives_the_same_table(sweep, tmp_path):
  out = tmp_path / 'out'
  results = out / 'small/results.json'
  assert start(sweep, out).wait() == 0
  assert '| method | ' in (out / 'printed').read_text()
  whole = json.loads(results.read_text())['arms']
  assert set(whole['method']['SSIM']['values']) == {'0', '1'}
  results.unlink()
  second = out / 'small/method-1'
  shutil.rmtree(second)
  process = start(sweep, out)
  # In the middle of the second training, as a rule during a save.
  kill_when(process, (second / 'student/checkpoints/1').exists)
  assert process.returncode == -signal.SIGKILL
  assert not (second / 'evaluation').exists() and not results.exists()
  first = out / 'small/method-0/student.done.json'
  before = first.stat().st_mtime_ns
  assert start(sweep, out).wait() == 0
  printed = (out / 'printed').read_text()
  assert 'point 1, method-1: asymtalker train-student' in printed
  assert 'point 0' not in printed and first.stat().st_mtime_ns == before
  assert json.loads(results.read_text())['arms'] == whole
  made = out / 'small/method-0/evaluation/videos/student.json'
  # As the student was trained; no flag of the evaluation says so.
  assert json.loads(made.read_text())['carry'] == 'latent'


def test_a_point_needs_what_all_share_and_its_number(sweep, tmp_path, capsys):
  assert cli.main(words(sweep, tmp_path, '--point=0')) == 2
  assert '--points=shared' in capsys.readouterr().err
  assert cli.main(words(sweep, tmp_path, '--point=2')) == 2
  assert 'has points 0 to 1' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def made_up(tmp_path, **changes):
  """A sweep whose only stage is a command that fails at once."""
  values = {
      'name': 'made_up', 'seeds': (0,), 'shared': (),
      'stages': (('train', 'train-vae --config=nothing.py --data=a'
                  ' --workdir={train}'),),
      'arms': (('a',), ('b',)), 'figures': (('x', 'lower', 'x'),),
  } | changes  # pyformat: disable
  path = tmp_path / 'made_up.py'
  path.write_text(
      'import ml_collections\ndef get_config():\n'
      f'  return ml_collections.ConfigDict({values!r})\n'
  )
  return path


def test_points_that_fail_are_listed_and_the_others_run(tmp_path, capsys):
  assert cli.main(words(made_up(tmp_path), tmp_path)) == 1
  out, err = capsys.readouterr()
  assert '2 points failed: 0 (a-0), 1 (b-0)' in out and '| b | - |' in out
  assert err.count('asymtalker train-vae: ') == 2 and 'nothing.py' in err


def test_what_all_share_must_not_fail(tmp_path, capsys):
  shared = (('data', 'data build --out={data} --dataset=nothing'),)
  assert cli.main(words(made_up(tmp_path, shared=shared), tmp_path)) == 2
  assert "dataset 'nothing'" in capsys.readouterr().err


def test_a_folder_made_in_another_way_is_found_before_anything_runs(
    tmp_path, capsys
):
  last = tmp_path / 'made_up/b-0/train.done.json'
  last.parent.mkdir(parents=True)
  last.write_text(json.dumps({'command': 'asymtalker other', 'cost': {}}))
  for more in ((), ('--point=0',)):  # Also where another point is to run.
    assert cli.main(words(made_up(tmp_path), tmp_path, *more)) == 2
    out, err = capsys.readouterr()
    assert 'was made by `asymtalker other`' in err and 'point 0' not in out
  assert [p.name for p in (tmp_path / 'made_up').iterdir()] == ['b-0']


def test_an_arm_that_diverges_is_a_point_that_failed(
    tmp_path, monkeypatch, capsys
):
  def diverge(*unused):
    raise FloatingPointError('loss is nan at step 3')

  monkeypatch.setattr(teacher, 'train', diverge)
  stages = (('train', f'train-teacher --config={ROOT}/configs/teacher.py:micro'
             ' --data=a --workdir={train}'),)  # pyformat: disable
  path = made_up(tmp_path, stages=stages, arms=(('a',),))
  assert cli.main(words(path, tmp_path)) == 1
  out, err = capsys.readouterr()
  assert '1 points failed: 0 (a-0)' in out and 'loss is nan at step 3' in err
  spent = json.loads((tmp_path / 'made_up/a-0/train.spent.json').read_text())
  assert spent['wall_s'] > 0


def test_sigterm_ends_the_sweep_and_not_only_its_training(
    tmp_path, monkeypatch, capsys
):
  class Stopped:
    step, stopped, new, at_end = 3, 'sigterm', True, False

  monkeypatch.setattr(teacher, 'train', lambda *unused: Stopped)
  stages = (('train', f'train-teacher --config={ROOT}/configs/teacher.py:micro'
             ' --data=a --workdir={train}'),)  # pyformat: disable
  assert cli.main(words(made_up(tmp_path, stages=stages), tmp_path)) == 143
  assert 'point 1' not in capsys.readouterr().out
  assert not list(tmp_path.rglob('*.done.json'))
