"""kill -9 at random moments of a student run: it goes on, bit for bit.

  ASYMTALKER_KILLS=20 python -m pytest tests/train/kill_test.py

Without the variable this is skipped: every kill is a start of the program. A
small version of it, on a toy, is in loop_test.py. Every step is saved, so that
many kills fall into a save.
"""

import os
import pathlib
import random
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.inputs import encoded
from asymtalker_jax.models import variants
from asymtalker_jax.train import metrics
from asymtalker_jax.train import student
from tests.configs_test import config as config_of
from tests.train import distillation_step_test as case

ROOT = pathlib.Path(__file__).parents[2]
KILLS = int(os.environ.get('ASYMTALKER_KILLS', '0'))
STEPS = 30 * KILLS + 2


@pytest.mark.skipif(not KILLS, reason='ASYMTALKER_KILLS is not set')
def test_every_kill_is_survived(tmp_path):
  write_inputs(tmp_path)
  log = open(tmp_path / 'log', 'w')
  assert begin(tmp_path, 'whole', log).wait() == 0, log_of(tmp_path)
  draw = random.Random(time.time_ns())
  for _ in range(KILLS):
    child = begin(tmp_path, 'killed', log)
    if draw.random() < 0.8:
      wait_for_step(child, tmp_path, newest(tmp_path) + draw.randint(1, 3))
    time.sleep(draw.uniform(0.0, 0.3))
    assert child.poll() is None, log_of(tmp_path)
    child.kill()
    child.wait()
    # Lost is the interval of one step, and the step that was being saved.
    assert max(taken(tmp_path, 'killed'), default=0) <= newest(tmp_path) + 2
  assert begin(tmp_path, 'killed', log).wait() == 0, log_of(tmp_path)
  assert taken(tmp_path, 'killed') == taken(tmp_path, 'whole')
  whole, killed = (
      (tmp_path / name / 'bundle' / 'dit.safetensors').read_bytes()
      for name in ('whole', 'killed')
  )
  assert whole == killed


def begin(root, name, log):
  """Starts this file as a program that trains in a folder of `root`."""
  env = dict(
      os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu',
      JAX_COMPILATION_CACHE_DIR=str(root / 'compiled'),
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
  )
  return subprocess.Popen(
      [sys.executable, __file__, str(root), name], env=env, stdout=log,
      stderr=log,
  )


def taken(root, name):
  """Step -> what was logged of it, but for times."""
  if not (root / name / metrics.FILE).exists():
    return {}
  lines = [x for x in metrics.read(str(root / name)) if 'critic/loss' in x
           or 'generator/dmd' in x]  # pyformat: disable
  return {
      line['step']: {k: v for k, v in line.items() if 'time/' not in k}
      for line in lines
  }


def newest(root):
  """Step of the newest complete checkpoint of the killed run, 0 if none."""
  folder = root / 'killed' / 'checkpoints'
  names = [p.name for p in folder.iterdir()] if folder.exists() else []
  return max((int(n) for n in names if n.isdigit()), default=0)


def wait_for_step(child, root, number):
  """Returns when the child has logged a step."""
  deadline = time.monotonic() + 600
  while number not in taken(root, 'killed'):
    assert child.poll() is None, log_of(root)
    assert time.monotonic() < deadline, f'no step {number} within 600 s'
    time.sleep(0.02)


def log_of(root):
  return (root / 'log').read_text()[-3000:]


def write_inputs(root):
  """Random latents, their autoencoder and a teacher of random weights."""
  networks = case.networks()
  plan, rng = networks.chunk, np.random.default_rng(0)
  frames = 2 * plan.new_frames + plan.continuity_frames
  normal = lambda *shape: rng.normal(size=shape).astype(np.float16)
  examples = [
      dict(
          latents=normal(2, *plan.latent_shape), audio=normal(frames, 4, 40),
          reference_latents=normal(1, *plan.latent_shape), identity=np.int64(i),
      )
      for i in range(10)
  ]
  for split in ('train', 'test'):
    encoded.write_encoded(
        str(root / 'latents'), split, lambda start: examples[start:], 10,
        meta=dict(reference_encoding=networks.values['reference_encoding']),
    )
  params = jax.tree.map(np.asarray, jax.jit(_random)(jax.random.key(0)))
  for folder, parts in (
      ('teacher', params), ('latents/vae', {'vae': params['vae']})
  ):
    bundle.save(
        root / folder, variant='nano', model=networks.values, params=parts
    )


def _random(key):
  """Parameters of a network that answers something, compiled as one."""
  networks = case.networks()
  dit = jax.tree.map(
      lambda x: x + 0.1 * jax.random.normal(key, x.shape),
      networks.init_dit(key),
  )
  return {'teacher': dit, 'vae': networks.init_vae(key)}


def main(root, name):
  variants.VARIANTS['nano'] = case.networks().values
  config = config_of('student')
  config.update(
      variant='nano', steps=STEPS, batch_size=2, chunks=2, log_every=1,
      eval_every=0, save_every_minutes=1e-9,
  )
  student.train(config, f'{root}/latents', f'{root}/teacher', f'{root}/{name}')


if __name__ == '__main__':
  main(*sys.argv[1:])
