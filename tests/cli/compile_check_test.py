"""compile-check as a command: exit codes and the file that it leaves."""

import json
import pathlib

import jax
import pytest

from asymtalker_jax.cli import main as cli
from asymtalker_jax.train import compile_report

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


@pytest.fixture
def answer(monkeypatch):
  """Programs are made, not compiled; returns what a test may change."""
  values = dict(fits=True)

  def check(program, mesh, chip):
    del mesh, chip
    return dict(
        program=program.name, examples=program.examples, compile_s=1.0,
        compile_cpu_s=1.0, largest_buffers=[['f32[7]', 20.0]], **values
    )

  monkeypatch.setattr(
      compile_report, 'devices', lambda *_: jax.devices()[:1]
  )
  monkeypatch.setattr(compile_report, 'check', check)
  return values


def run(config, *words):
  return cli.main([
      'compile-check', f'--config={CONFIGS}/{config}', '--topology=v5e:1x1',
      *words,
  ])


def test_both_updates_of_the_student_are_reported(answer, tmp_path):
  del answer
  assert run('student.py:tiny', f'--out={tmp_path}/deep/report.json') == 0
  report = json.loads((tmp_path / 'deep/report.json').read_text())
  assert [p['program'] for p in report['programs']] == ['generator', 'critic']
  assert report['mesh'] == dict(data=1, fsdp=1, seq=1)


def test_what_does_not_fit_exits_1_and_names_the_largest(answer, capsys):
  answer['fits'] = False
  assert run('teacher.py:tiny') == 1
  assert '20.00 GB  f32[7]' in capsys.readouterr().out


@pytest.mark.parametrize(
    'words, message',
    [
        (['teacher.py:tiny', '--kind=generation'], 'configs/student.py'),
        (['teacher.py:tiny', '--config.mesh.fsdp=3'], 'does not fit 1 device'),
        (['teacher.py:tiny', '--config.batch_size=0'], 'batch_size=0 must be'),
    ],
)
def test_bad_input_is_one_line(answer, capsys, words, message):
  del answer
  assert run(*words) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1
