"""`asymtalker train-student` of tiny networks, from a random teacher."""

import gc
import os
import weakref

import jax
import numpy as np
from PIL import Image
import pytest
import soundfile

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.models import variants
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import metrics
from asymtalker_jax.train import student
from tests.configs_test import FOLDER as CONFIGS
from tests.train import distillation_step_test as case
from tests.train import kill_test

CHANGES = dict(
    variant='nano', steps=2, batch_size=2, chunks=2, log_every=1,
    frozen_dtype='bfloat16', continuity_carry='latent',
)


def train(root):
  words = [
      'train-student', f'--config={CONFIGS}/student.py:tiny',
      f'--data={root}/latents', f'--teacher={root}/teacher',
      f'--workdir={root}/run',
      *(f'--config.{name}={value}' for name, value in CHANGES.items()),
  ]
  assert cli.main(words) == 0


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(folder, of each array that was put for the teacher, whether it is alive
  at the evaluation)."""
  root, seen, alive = tmp_path_factory.mktemp('student'), [], []
  kill_test.write_inputs(root)
  put, evaluate = sharding.put_parameters, student.Evaluation.__call__

  def put_and_note(tree, mesh):
    arrays = put(tree, mesh)
    if 'blocks' in tree:
      seen.extend(weakref.ref(x) for x in jax.tree.leaves(arrays))
    return arrays

  def count_and_evaluate(self, *args):
    gc.collect()
    alive.extend(array() is not None for array in seen)
    return evaluate(self, *args)

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(variants.VARIANTS, 'nano', case.networks().values)
    patch.setattr(sharding, 'put_parameters', put_and_note)
    patch.setattr(student.Evaluation, '__call__', count_and_evaluate)
    train(root)
  return root, alive


def test_nothing_holds_the_teacher_in_float32_beside_the_frozen_one(trained):
  assert trained[1] and not any(trained[1])


def test_the_carry_of_the_training_is_that_of_the_video(trained, tmp_path):
  root, exported = trained[0], tmp_path / 'exported'
  source = root / 'run' / 'bundle'
  assert cli.main(['export', f'--bundle={source}', f'--out={exported}',
                   '--dtype=float32']) == 0
  for folder in (source, exported):
    sampler = bundle.open_bundle(folder, ()).config['sampler']
    assert sampler['continuity_carry'] == 'latent'
  rng = np.random.default_rng(0)
  picture = rng.integers(0, 256, (32, 32, 3), np.uint8)
  Image.fromarray(picture).save(tmp_path / 'face.png')
  soundfile.write(tmp_path / 'speech.wav', rng.normal(size=8000) * 0.1, 16000)
  for name, words in (
      ('own', []), ('latent', ['--carry=latent']),
      ('reencode', ['--carry=reencode']),
  ):
    assert cli.main([
        'generate', f'--bundle={exported}', f'--image={tmp_path}/face.png',
        f'--audio={tmp_path}/speech.wav', f'--output={tmp_path}/{name}.mp4',
        *words,
    ]) == 0
  own, latent, reencode = (
      (tmp_path / f'{name}.mp4').read_bytes()
      for name in ('own', 'latent', 'reencode')
  )
  assert own == latent != reencode


def test_a_training_that_is_done_says_so_and_writes_nothing(trained, capsys):
  root = trained[0]
  files = [p for p in (root / 'run').rglob('*') if p.is_file()]
  before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
  steps = [line['step'] for line in metrics.read(str(root / 'run'))]
  assert steps == [1, 2, 2]  # Of which one is the evaluation.
  train(root)
  line = f'student: already done, step 2 (steps), bundle in {root}/run/bundle\n'
  assert capsys.readouterr().out == line
  after = [p for p in (root / 'run').rglob('*') if p.is_file()]
  assert set(after) == set(files)
  assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
  # A bundle that is missing is written again, and only that.
  os.remove(root / 'run' / 'bundle' / 'config.json')
  train(root)
  assert capsys.readouterr().out == line.replace('already done, ', '')
  for path, (_, content) in before.items():
    if path.suffix in ('.json', '.safetensors', '.jsonl'):
      assert path.read_bytes() == content, path
