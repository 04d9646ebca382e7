"""A training over two processes is the training of one.

2 processes x 2 CPU devices, joined by Gloo, against 1 process x 4 devices: all
of `train-teacher`, with sharded input, checkpoints, evaluation and bundle, and
`train-student` with the rollout that it is evaluated by.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.inputs import encoded
from asymtalker_jax.models import variants
from asymtalker_jax.parallel import distributed
from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import metrics
from asymtalker_jax.train import student
from asymtalker_jax.train import teacher
from tests.configs_test import config as config_of
from tests.inputs import loader_test
from tests.train import distillation_step_test as case

ROOT = pathlib.Path(__file__).parents[2]
STEPS, EXAMPLES = 3, 10


def free_port():
  with socket.socket() as one:
    one.bind(('localhost', 0))
    return one.getsockname()[1]


def begin(devices, *words, **variables):
  env = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  env |= dict(
      variables, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu',
      JAX_CPU_COLLECTIVES_IMPLEMENTATION='gloo',
      XLA_FLAGS=f'--xla_force_host_platform_device_count={devices}'
      ' --xla_backend_optimization_level=0',
  )
  return subprocess.Popen(
      [sys.executable, *map(str, words)], env=env, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )


def lines(process):
  out, error = process.communicate(timeout=300)
  assert process.returncode == 0, error[-3000:]
  return dict(line.split('=', 1) for line in out.splitlines() if '=' in line)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """(folder, what each of the two processes says), run at the same time."""
  root = tmp_path_factory.mktemp('runs')
  _write_data(root)
  address = f'localhost:{free_port()}'
  two = [
      begin(2, __file__, root, 'two', JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES='2', JAX_PROCESS_ID=str(i))
      for i in range(2)
  ]
  one = begin(4, __file__, root, 'one')
  try:
    said = [lines(process) for process in two]
    lines(one)
  finally:
    for process in (one, *two):
      process.kill()
  return root, said


def test_two_processes_see_each_other(runs):
  assert [said['devices'] for said in runs[1]] == ['4, 2 here'] * 2


def test_rows_that_two_processes_share_are_read_by_both(runs):
  for said in runs[1]:
    assert said['rows'] == '[0, 1, 2, 3], [10, 11, 12, 13]'


def test_losses_are_those_of_one_process(runs):
  one, two = (
      {line['step']: line for line in metrics.read(str(runs[0] / name))
       if 'loss' in line}
      for name in ('one', 'two')
  )
  assert list(one) == list(two) == [1, 2, 3]
  for step in one:
    for name in ('loss', 'gradient'):
      np.testing.assert_allclose(two[step][name], one[step][name], rtol=1e-5)
  assert len({line['loss'] for line in one.values()}) == STEPS


@pytest.mark.parametrize('role, part, figures', [
    ('', 'teacher', ['eval/loss', 'eval/velocity_mse']),
    ('_student', 'dit', [f'eval/latent_error_chunk{j}' for j in range(2)]),
])
def test_evaluation_and_bundle_are_those_of_one_process(
    runs, role, part, figures
):
  found = []
  for name in ('one', 'two'):
    folder = runs[0] / (name + role)
    params = bundle.load(folder / 'bundle', (part,)).params
    values = [[line[k] for k in figures]
              for line in metrics.read(str(folder)) if figures[0] in line]
    found.append((values, dict(bundle.flatten(params[part]))))
  (eval_one, one), (eval_two, two) = found
  assert len(eval_one) == 1 and min(eval_one[0]) > 0
  np.testing.assert_allclose(eval_two, eval_one, rtol=1e-5)
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, atol=1e-5, err_msg=name)


def test_the_student_that_is_evaluated_has_moved(runs):
  start, end = (
      dict(bundle.flatten(bundle.load(runs[0] / name, (part,)).params[part]))
      for name, part in (('start', 'teacher'), ('two_student/bundle', 'dit'))
  )
  assert max(np.abs(end[name] - start[name]).max() for name in end) > 1e-3


def test_both_processes_know_that_a_run_has_ended(runs):
  assert [said['again'] for said in runs[1]] == ['False, True'] * 2


def test_every_example_is_seen_once_per_epoch_over_both(runs):
  drawn = [np.array(json.loads(said['drawn'])) for said in runs[1]]
  assert drawn[0].shape == drawn[1].shape == (EXAMPLES,)
  # Two epochs: batches of 2, one row of each in every process.
  epochs = np.stack(drawn, 1).reshape(2, EXAMPLES)
  np.testing.assert_array_equal(np.sort(epochs), [range(EXAMPLES)] * 2)


def test_processes_with_other_flags_are_named_on_all_of_them(runs):
  for said in runs[1]:
    assert said['refused'].startswith('processes [1] of 2 have other flags')


def test_absent_process_is_one_line_in_time():
  verb = ['train-teacher', '--config', ROOT / 'configs/teacher.py', '--data=x',
          '--workdir=x', '--num_processes=2', '--join_timeout_s=2']
  address = f'localhost:{free_port()}'
  started = [
      begin(1, '-m', 'asymtalker_jax.cli.main', *verb, f'--process_id={i}',
            f'--coordinator={where}')
      for i, where in ((0, address), (1, f'localhost:{free_port()}'))
  ]
  for process, missing in zip(
      started, ('at least one other process', 'process 0 at localhost:')
  ):
    _, error = process.communicate(timeout=300)
    last = error.splitlines()[-1]
    assert process.returncode == 75, error
    assert missing in last and 'waited 2 s' in last, error
    assert 'Traceback' not in error


SLURM = dict(SLURM_JOB_ID='7', SLURM_STEP_NODELIST='n[1-2]', SLURM_NTASKS='2',
             SLURM_PROCID='1', SLURM_LOCALID='0')
MPI = dict(OMPI_COMM_WORLD_SIZE='4', OMPI_COMM_WORLD_RANK='3',
           OMPI_COMM_WORLD_LOCAL_RANK='1')


@pytest.mark.parametrize(
    'environ, found',
    [
        ({}, None),
        (SLURM, {}),
        (SLURM | dict(SLURM_NTASKS='1'), None),
        (dict(SLURM_NTASKS='2'), None),  # A batch script, outside of srun.
        (MPI | dict(OMPI_MCA_orte_hnp_uri='1.0;tcp://10.0.0.1:1'), {}),
        (dict(MPI, OMPI_COMM_WORLD_SIZE='1'), None),
        (
            MPI | dict(JAX_COORDINATOR_ADDRESS='a:1'),
            dict(coordinator_address='a:1', num_processes=4, process_id=3,
                 local_device_ids=1, cluster_detection_method='deactivate'),
        ),
    ],
)
def test_cluster_is_found_in_the_environment(environ, found):
  environ = dict(environ, JAX_PLATFORMS='cpu')
  assert distributed.find_cluster(environ=environ) == found


def test_flags_come_before_the_environment():
  found = distributed.find_cluster(
      'host:9', 2, 0, dict(SLURM, JAX_NUM_PROCESSES='5')
  )
  assert found == dict(
      coordinator_address='host:9', num_processes=2, process_id=0,
      cluster_detection_method='deactivate',
  )


@pytest.mark.parametrize(
    'given', [('h:1', None, None), ('h:1', 2, 2), ('h', 2, 0), ('h:x', 2, 0)]
)
def test_incomplete_and_impossible_flags_are_refused(given):
  with pytest.raises(ValueError, match='expected --coordinator=HOST:PORT'):
    distributed.find_cluster(*given, environ={})


def test_open_mpi_5_needs_the_coordinator():
  with pytest.raises(ValueError, match='no --coordinator, --num_processes=4'):
    distributed.find_cluster(environ=MPI)


def test_half_of_the_settings_is_one_line_of_error(capsys, monkeypatch):
  monkeypatch.setenv('JAX_PROCESS_ID', '0')
  words = ['train-teacher', f'--config={ROOT}/configs/teacher.py', '--data=x',
           '--workdir=x']
  assert cli.main(words) == 2
  assert 'no --coordinator' in capsys.readouterr().err


def _config(name, **changes):
  config = config_of(name)
  config.update(
      variant='nano', batch_size=4, log_every=1, in_memory=False, **changes
  )
  config.mesh.update(data=2, fsdp=2)
  # Adam divides by the gradient's size; a large eps keeps it linear.
  config.optimizer = dict(name='adamw', warmup_steps=0, lr=0.1, eps=0.1)
  return config


def _write_data(root):
  """Writes random latents with their autoencoder, and a random teacher."""
  networks = case.networks()
  plan, random = networks.chunk, np.random.default_rng(0)
  frames = 2 * plan.new_frames + plan.continuity_frames
  normal = lambda *shape: random.normal(size=shape).astype(np.float16)
  examples = [
      dict(
          latents=normal(2, *plan.latent_shape), audio=normal(frames, 4, 40),
          reference_latents=normal(1, *plan.latent_shape), identity=np.int64(i),
      )
      for i in range(EXAMPLES)
  ]
  for split in ('train', 'test'):
    encoded.write_encoded(
        f'{root}/latents', split, lambda start: examples[start:], EXAMPLES,
        meta=dict(reference_encoding='temporal'),
    )
  shapes = jax.eval_shape(networks.init_vae, jax.random.key(0))
  vae = jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), shapes)
  draw = lambda x: random.normal(0, 0.1, x.shape).astype(np.float32)
  shapes = jax.eval_shape(networks.init_dit, jax.random.key(0))
  teacher = jax.tree.map(draw, shapes)
  for name, params in (
      ('latents/vae', dict(vae=vae, audio={})),
      ('start', dict(vae=vae, audio={}, teacher=teacher)),
  ):
    bundle.save(
        f'{root}/{name}', variant='nano', model=networks.values, params=params
    )


def _train(root, name):
  """Joins the run, if there are others, and trains both."""
  variants.VARIANTS['nano'] = case.networks().values
  found = distributed.find_cluster()
  if found:
    distributed.start(found, 300)
    _say_what_this_process_sees()
  config = _config('teacher', steps=STEPS, eval_every=STEPS)
  run = lambda: teacher.train(config, f'{root}/latents', f'{root}/{name}').new
  run()
  if found:
    _say_what_is_new(run, f'{root}/{name}/bundle/config.json')
  # One update of the student, which the evaluation then shows.
  config = _config('student', steps=1, chunks=2, remat='none')
  config.sampler.timesteps = (1000.0, 500.0)
  student.train(
      config, f'{root}/latents', f'{root}/start', f'{root}/{name}_student'
  )


def _say_what_is_new(run, bundle_config):
  """Runs again what has ended, with its bundle and without."""
  complete = run()
  if not jax.process_index():  # That of the other does not decide.
    os.remove(bundle_config)
  print(f'again={complete}, {run()}')


def _say_what_this_process_sees():
  print(f'devices={jax.device_count()}, {jax.local_device_count()} here')
  distributed.check_same('flags', 'equal')
  try:
    distributed.check_same('flags', str(jax.process_index()))
  except ValueError as error:
    print(f'refused={error}')
  # Each row group has a device in both processes.
  pairs = np.array(jax.devices()).reshape(1, 2, 2).swapaxes(1, 2)
  mesh = jax.sharding.Mesh(pairs, mesh_lib.AXES)
  rows = sharding.process_rows(4, mesh)
  batch = sharding.put_batch(np.array([10, 11, 12, 13])[rows], mesh)
  print(f'rows={rows}, {sharding.to_host(batch).tolist()}')
  mesh = mesh_lib.make_mesh(data=2, fsdp=1, seq=2)
  numbers = loader_test.numbers(
      size=2, source=EXAMPLES, rows=sharding.process_rows(2, mesh)
  )
  drawn = [int(batch['n'][0]) for batch in loader_test.take(numbers, EXAMPLES)]
  print(f'drawn={drawn}')


if __name__ == '__main__':
  _train(*sys.argv[1:])
