"""States on one device; sharded ones are in parallel/eight_devices_test.py."""

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib

TX, _ = optimizer.build(dict(lr=0.1))


def create(teacher):
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  return state_lib.create_sharded(
      lambda params: state_lib.StudentState.create(params, TX, TX), mesh,
      args=(teacher,),
  )


def test_student_and_critic_start_as_the_teacher():
  teacher = {'kernel': jnp.arange(4.0)}
  state = create(teacher)
  for tree in (state.student, state.ema, state.critic):
    np.testing.assert_array_equal(tree['kernel'], teacher['kernel'])
  assert state.step.dtype == jnp.int32 and state.step == 0


def test_donating_the_state_leaves_the_teacher_alive():
  teacher = {'kernel': jnp.arange(4.0)}
  state = create(teacher)
  double = lambda s: jax.tree.map(lambda x: x * 2, s)
  jax.block_until_ready(jax.jit(double, donate_argnums=0)(state))
  assert state.student['kernel'].is_deleted()
  np.testing.assert_array_equal(teacher['kernel'], jnp.arange(4.0))


def test_abstract_state_has_the_shapes_and_placement_of_the_state():
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  init = lambda key: state_lib.TrainState.create(
      {'kernel': jax.random.normal(key, (4, 4))}, TX, ema=False
  )
  args = (jax.random.key(0),)
  abstract = state_lib.abstract_sharded(init, mesh, args=args)
  state = state_lib.create_sharded(init, mesh, args=args)
  same = jax.tree.map(
      lambda a, b: (a.shape, a.dtype, a.sharding)
      == (b.shape, b.dtype, b.sharding),
      abstract, state,
  )
  assert all(jax.tree.leaves(same)) and state.ema is None
