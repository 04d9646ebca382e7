"""The whole recipe through the command line, small enough for a test.

Data -> VAE -> latents -> teacher -> student -> export -> video -> evaluation.
What is checked is that every stage takes what the one before it wrote; how good
the result is shows the bundled checkpoint, not this test.
"""

import json
import pathlib

import av
import numpy as np
import pytest
import soundfile

from asymtalker_jax import bundle
from asymtalker_jax import sampler_values
from asymtalker_jax.cli import main as cli

pytest.importorskip('espeakng_loader')
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
SHIFT = {'flow.shift': 4.0}


def run(*words):
  assert cli.main([str(w) for w in words]) == 0, words


def train(verb, config, workdir, *words, **overrides):
  overrides = dict(
      dict(
          {'optimizer.warmup_steps': 0},
          variant='micro',
          steps=2,
          batch_size=2,
          log_every=1,
      ),
      **overrides
  )
  run(
      verb, f'--config={CONFIGS / config}:tiny', f'--workdir={workdir}', *words,
      *(f'--config.{k}={v}' for k, v in overrides.items()),
  )


def train_vae(root):
  train(
      'train-vae', 'vae.py', root / 'vae', f'--data={root}/puppets', frames=5,
      statistics_batches=1,
  )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Folder with everything that the recipe makes, run once."""
  root = tmp_path_factory.mktemp('recipe')
  run(
      'data', 'build', '--dataset=puppets', f'--out={root}/puppets',
      '--clips_train=3', '--clips_test=2', '--frames=62', '--size=64',
      '--workers=0',
  )
  train_vae(root)
  run(
      'data', 'encode', f'--config={CONFIGS}/encode.py:tiny',
      '--config.windows=2', f'--data={root}/puppets',
      f'--vae={root}/vae/bundle', f'--out={root}/latents',
  )
  train('train-teacher', 'teacher.py', root / 'teacher',
        f'--data={root}/latents', **SHIFT)
  train(
      'train-student', 'student.py', root / 'student', f'--data={root}/latents',
      f'--teacher={root}/teacher/bundle', chunks=2, steps=4, **SHIFT,
  )
  run('export', f'--bundle={root}/student/bundle', f'--out={root}/exported')
  return root


def test_every_stage_leaves_metrics_samples_and_a_bundle(trained):
  for stage in ('vae', 'teacher', 'student'):
    lines = (trained / stage / 'metrics.jsonl').read_text().splitlines()
    values = [json.loads(line) for line in lines]
    # Generator, critic, critic, generator: every program runs twice.
    assert values[-1]['step'] == (4 if stage == 'student' else 2)
    assert all(np.isfinite(v) for line in values for v in line.values())
    assert list((trained / stage / 'samples').glob('*.png'))
    assert (trained / stage / 'bundle' / 'config.json').exists()
    assert (trained / stage / 'curves.png').exists()
  assert (trained / 'student' / 'drift.png').exists()


def test_bundles_sample_with_the_shift_of_their_training(trained):
  for stage in ('teacher', 'student'):
    found = bundle.open_bundle(trained / stage / 'bundle')
    assert found.config['sampler']['shift'] == 4.0
  assert sampler_values.DEFAULTS['shift'] != 4.0


def test_student_starts_from_the_teacher_and_moves(trained):
  teacher = bundle.load(trained / 'teacher' / 'bundle', ('teacher',))
  student = bundle.load(trained / 'student' / 'bundle', ('teacher', 'dit'))
  a = dict(bundle.flatten(teacher.params['teacher']))
  b = dict(bundle.flatten(student.params['teacher']))
  c = dict(bundle.flatten(student.params['dit']))
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])
    assert np.abs(c[name] - a[name]).max() < 0.01
  assert any(np.abs(c[n] - a[n]).max() > 0 for n in a)


def test_exported_bundle_generates_a_video_of_the_speech(trained):
  speech = trained / 'speech.wav'
  noise = np.random.default_rng(0).normal(size=24000) * 0.1
  soundfile.write(speech, noise, 16000)
  portrait = pathlib.Path(bundle.PRETRAINED) / 'tiny' / 'portrait.png'
  video, report = trained / 'video.mp4', trained / 'report.json'
  run(
      'generate', f'--bundle={trained}/exported', f'--image={portrait}',
      f'--audio={speech}', f'--output={video}', f'--report={report}',
  )
  with av.open(str(video)) as container:
    frames = sum(1 for _ in container.decode(video=0))
  assert frames == json.loads(report.read_text())['frames'] == round(25 * 1.5)


def test_an_autoencoder_that_is_done_is_left_as_it_is(trained, capsys):
  note = trained / 'vae' / 'bundle' / 'config.json'
  before = note.stat().st_mtime_ns
  train_vae(trained)
  assert 'VAE: already done, step 2 (steps)' in capsys.readouterr().out
  assert note.stat().st_mtime_ns == before


def test_training_continues_where_it_stopped(trained, tmp_path):
  work = trained / 'student'
  train(
      'train-student', 'student.py', work, f'--data={trained}/latents',
      f'--teacher={trained}/teacher/bundle', chunks=2, steps=5, **SHIFT,
  )
  lines = (work / 'metrics.jsonl').read_text().splitlines()
  steps = [json.loads(line)['step'] for line in lines]
  assert steps[-1] == 5 and steps.count(1) == 1
