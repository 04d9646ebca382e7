"""Training steps on meshes of 8 CPU devices give what one device gives."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# Heads do not divide seq=4: 'seq' goes round in a ring, 'mixed' by all-to-all.
MESHES = {
    'fsdp': dict(data=2, fsdp=4, seq=1),
    'seq': dict(data=2, fsdp=1, seq=4),
    'mixed': dict(data=2, fsdp=2, seq=2),
}
STEPS = ('teacher', 'generator', 'critic')


@pytest.fixture(scope='module')
def report():
  """Output lines of this file run as a program."""
  env = dict(
      os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu',
      XLA_FLAGS='--xla_force_host_platform_device_count=8'
      ' --xla_backend_optimization_level=0',
  )
  done = subprocess.run(
      [sys.executable, __file__], env=env, timeout=900, capture_output=True,
      text=True,
  )
  assert done.returncode == 0, done.stderr
  return dict(line.split('=', 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('mesh', MESHES)
def test_step_on_a_mesh_equals_one_device(report, mesh, step):
  assert float(report[f'{mesh}/{step}']) < 1e-5


@pytest.mark.parametrize('step', STEPS)
def test_the_compared_steps_move_their_parameters(report, step):
  assert float(report[f'moved/{step}']) > 1e-3


@pytest.mark.parametrize('method', ('ulysses', 'ring'))
def test_attention_over_devices_and_its_gradients_equal_one_device(
    report, method
):
  assert float(report[f'attention/{method}']) < 1e-5


def test_tokens_that_the_mesh_does_not_divide_are_refused(report):
  assert report['refused'] == (
      'mesh seq=4: expected a divisor of the 6 tokens of a latent frame'
  )


def _attention():
  """Prints the largest difference of values and gradients per method."""

  def loss(qkv):
    out = sequence_attention.attend(*qkv, attention.attention)
    return (jnp.sin(out) * jnp.arange(out.size).reshape(out.shape)).mean()

  mesh = mesh_lib.make_mesh(data=2, fsdp=1, seq=4)
  for heads in (4, 3):
    keys = jax.random.split(jax.random.key(heads), 3)
    qkv = [2 * jax.random.normal(k, (2, 3, 8, heads, 6)) for k in keys]
    want = jax.jit(jax.value_and_grad(loss))(qkv)
    with jax.set_mesh(mesh):
      got = jax.jit(jax.value_and_grad(loss))(qkv)
    method = sequence_attention.method(heads, 4)
    print(f'attention/{method}={_difference(want, got)}')
  with jax.set_mesh(mesh):
    try:
      loss([jnp.zeros((2, 3, 6, 4, 6))] * 3)
    except ValueError as error:
      print(f'refused={error}')


def _difference(a, b):
  gaps = jax.tree.map(
      lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max()), a, b
  )
  return max(jax.tree.leaves(gaps))


def _steps():
  """Step functions of (state, batch, frozen), and what they start from."""
  # Adam divides by the gradient's size; a large eps keeps it linear.
  optimizer = dict(case.OPTIMIZER, eps=0.1, lr=0.1)
  cfg = case.config(optimizer=optimizer, critic_optimizer=optimizer)
  cfg.conditioning = dict(cold_start=0.5, drop_audio=0.5)
  cfg.flow.update(weighting='bell', motion_weight=1.0)
  d = distillation.build(case.networks(), cfg)
  t = teacher.build(case.networks(), cfg)
  frozen, data = case.frozen(), case.batch(size=8)
  window = types.TeacherBatch(
      latents=data.latents[:, 0], reference=data.reference,
      audio=data.audio[:, 0],
  )
  # This key draws the second chunk and the second sampler step.
  key = jax.random.key(2)
  draw = distillation.Draw.create(d, data, key)
  assert (int(draw.k), int(draw.exit_step)) == (1, 1), draw
  student = lambda which: lambda s, b, f: which(d, s, f, b, key)
  return {
      'teacher': (
          lambda s, b, f: teacher.train_step(t, s, b, key),
          lambda p: state_lib.TrainState.create(p, t.tx), window,
      ),
      'generator': (
          student(distillation.generator_step),
          functools.partial(distillation.init_state, d), data,
      ),
      'critic': (
          student(distillation.critic_step),
          functools.partial(distillation.init_state, d), data,
      ),
  }, frozen


def _main():
  """Prints name=value lines for the tests above."""
  _attention()
  steps, frozen = _steps()
  rule = functools.partial(sharding.fsdp_sharding, min_size=1)
  for name, (step, init, data) in steps.items():
    start = jax.jit(init)(frozen['teacher'])
    want = jax.jit(step)(start, data, frozen)
    print(f'moved/{name}={_difference(start, want[0])}')
    for title, sizes in MESHES.items():
      mesh = mesh_lib.make_mesh(**sizes)
      put = lambda tree: jax.device_put(tree, rule(tree, mesh))
      state = put(start)
      shardings = jax.tree.map(lambda x: x.sharding, state)
      with jax.set_mesh(mesh):
        run = jax.jit(step, out_shardings=(shardings, None))
        got = run(state, sharding.put_batch(data, mesh), put(frozen))
      print(f'{title}/{name}={_difference(want, got)}')


if __name__ == '__main__':
  import jax
  import jax.numpy as jnp
  import numpy as np

  from asymtalker_jax import types
  from asymtalker_jax.models import attention
  from asymtalker_jax.parallel import mesh as mesh_lib
  from asymtalker_jax.parallel import sequence_attention
  from asymtalker_jax.parallel import sharding
  from asymtalker_jax.train import distillation
  from asymtalker_jax.train import state as state_lib
  from asymtalker_jax.train import teacher
  from tests.train import distillation_step_test as case

  _main()
