"""What needs several devices, in one process with 8 CPU devices."""

import copy
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def report(tmp_path_factory):
  """Output lines of this file run as a program."""
  env = dict(
      os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu',
      XLA_FLAGS='--xla_force_host_platform_device_count=8 '
      + os.environ.get('XLA_FLAGS', ''),
  )
  folder = tmp_path_factory.mktemp('checkpoints')
  done = subprocess.run(
      [sys.executable, __file__, str(folder)], env=env, timeout=300,
      capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stderr
  return dict(line.split('=', 1) for line in done.stdout.splitlines())


def test_adam_and_average_are_sharded_like_the_parameters(report):
  # 4 leaves of the kernel's shape: parameter, two moments, average.
  assert report['kernel_specs'] == "P(None, None, 'fsdp') " * 4
  assert report['kernel_devices'] == '8 8 8 8 '
  assert report['bias_specs'] == 'P() ' * 4


def test_each_leaf_has_buffers_of_its_own(report):
  assert report['shared_buffers'] == '0'


def test_sharded_step_equals_one_device(report):
  assert float(report['difference']) < 1e-5
  assert report['specs_kept'] == 'True'


def test_checkpoint_is_restored_on_another_mesh(report):
  assert report['restored_equal'] == 'True'
  assert report['restored_fsdp'] == '2'


def test_constrain_takes_the_mesh_that_is_set(report):
  assert report['constrained'] == "P('data',)"


def test_muon_state_is_sharded_too(report):
  assert report['muon_specs'] == "P(None, None, 'fsdp') "


def test_the_vae_splits_examples_not_channels(report):
  assert report['vae_gathers'] == 'True'
  assert report['vae_sums'] == '0'


def _toy(optimizer, state_lib, name='adamw'):
  """Returns (init, step) of a two-layer network."""
  tx, _ = optimizer.build(dict(name=name, lr=1e-3, clip_norm=1.0))

  def init(key):
    kernel = jax.random.normal(key, (2, 128, 128)) / 12
    params = {'layers': {'kernel': kernel, 'bias': jnp.zeros((2, 128))}}
    return state_lib.TrainState.create(params, tx)

  def loss(params, x):
    for i in range(2):
      layer = jax.tree.map(lambda leaf: leaf[i], params['layers'])
      x = jnp.tanh(x @ layer['kernel'] + layer['bias'])
    return jnp.mean((x - 0.1) ** 2)

  def step(state, x):
    grads = jax.grad(loss)(state.params, x)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state_lib.TrainState(
        step=state.step + 1, params=params, opt_state=opt_state,
        ema=optimizer.ema_update(state.ema, params, 0.9, state.step + 1),
    )

  return init, step


def _main(folder):
  """Prints name=value lines for the tests above."""
  key, x = jax.random.key(0), np.random.default_rng(0).normal(size=(16, 128))
  x = x.astype(np.float32)
  init, step = _toy(optimizer, state_lib)
  mesh = mesh_lib.make_mesh(data=2, fsdp=4)
  state = state_lib.create_sharded(init, mesh, args=(key,))
  leaves = jax.tree.leaves(state)
  kernels = [l for l in leaves if l.shape == (2, 128, 128)]
  biases = [l for l in leaves if l.shape == (2, 128)]
  show = lambda arrays: ''.join(f'{l.sharding.spec} ' for l in arrays)
  print('kernel_specs=' + show(kernels))
  print('kernel_devices=' + ''.join(
      f'{len(l.sharding.device_set)} ' for l in kernels))
  print('bias_specs=' + show(biases))
  buffers = [l.addressable_shards[0].data.unsafe_buffer_pointer()
             for l in leaves]
  print(f'shared_buffers={len(buffers) - len(set(buffers))}')

  before = jax.tree.map(lambda l: l.sharding, state)
  run = jax.jit(step, donate_argnums=0, out_shardings=before)
  alone = jax.jit(step)
  one = state_lib.create_sharded(
      init, mesh_lib.make_mesh(devices=jax.devices()[:1]), args=(key,))
  for _ in range(3):
    state = run(state, sharding.put_batch(x, mesh))
    one = alone(one, x)
  difference = jax.tree.map(
      lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()),
      state, one)
  print(f'difference={max(jax.tree.leaves(difference))}')
  after = jax.tree.map(lambda l: l.sharding, state)
  print(f'specs_kept={before == after}')

  saver = checkpoint.Checkpointer(folder, {})
  saver.save(3, checkpoint.Checkpoint(state=state, iterator={}))
  saver.close()
  other = mesh_lib.make_mesh(data=1, fsdp=2, devices=jax.devices()[:2])
  saver = checkpoint.Checkpointer(folder, {})
  found = saver.restore_or_init(
      state_lib.abstract_sharded(init, other, args=(key,)), None).state
  saver.close()
  equal = jax.tree.map(
      lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), found, state)
  print(f'restored_equal={all(jax.tree.leaves(equal))}')
  kernel = found.params['layers']['kernel']
  print(f"restored_fsdp={kernel.sharding.mesh.shape['fsdp']}")

  with jax.set_mesh(mesh):
    pinned = jax.jit(lambda a: sharding.constrain(a, 'data', None))(x)
  print(f'constrained={pinned.sharding.spec}')

  init, _ = _toy(optimizer, state_lib, 'muon')
  state = state_lib.create_sharded(init, mesh, args=(key,))
  print('muon_specs=' + show([
      l for l in jax.tree.leaves(state.opt_state) if l.shape == (2, 128, 128)]))
  _print_collectives_of_the_vae(mesh)


def _print_collectives_of_the_vae(mesh):
  """Of frames that are decoded with kernels in parts, at the full width."""
  values = copy.deepcopy(variants.VARIANTS['tiny'])
  values['vae'].update(base_channels=96)
  values['chunk'].update(height=32, width=32)
  networks = variants.build(values)
  shapes = jax.eval_shape(networks.init_vae, jax.random.key(0))
  params = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes, sharding.fsdp_sharding(shapes, mesh),
  )
  latents = jax.ShapeDtypeStruct(
      (8, *networks.chunk.latent_shape), jnp.float32,
      sharding=sharding.batch_sharding(mesh),
  )

  decode = lambda params, latents: networks.decode_tail(params, latents, 5)
  with jax.set_mesh(mesh):
    text = jax.jit(decode).lower(params, latents).compile().as_text()
  print(f'vae_gathers={"all-gather(" in text}')
  print(f'vae_sums={text.count("all-reduce(")}')


if __name__ == '__main__':
  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  from asymtalker_jax.models import variants
  from asymtalker_jax.parallel import mesh as mesh_lib
  from asymtalker_jax.parallel import sharding
  from asymtalker_jax.train import checkpoint
  from asymtalker_jax.train import optimizer
  from asymtalker_jax.train import state as state_lib

  _main(sys.argv[1])
