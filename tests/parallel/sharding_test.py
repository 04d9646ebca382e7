"""The sharding rule on shapes, and constrain on one device."""

import types

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding


@pytest.mark.parametrize(
    'shape, spec',
    [
        ((30, 1536, 8960), P(None, None, 'fsdp')),
        ((30, 8960, 1536), P(None, 'fsdp')),
        ((30, 1536, 1536), P(None, None, 'fsdp')),  # the output of a matmul
        ((64, 1001, 1001), P('fsdp')),  # the only divisible one
        ((1001, 1001), P()),  # none divisible
        ((128, 8), P()),  # too small
        ((), P()),
    ],
)
def test_largest_divisible_axis_is_sharded(shape, spec):
  assert sharding.fsdp_spec(shape, 8) == spec


def test_one_device_shards_nothing():
  assert sharding.fsdp_spec((1024, 1024), 1) == P()


def test_min_size_decides_what_is_small():
  assert sharding.fsdp_spec((128, 8), 8, min_size=0) == P('fsdp')


def test_batch_that_the_mesh_does_not_divide_is_refused():
  mesh = jax.sharding.AbstractMesh((2, 4, 1), mesh_lib.AXES)
  sharding.check_batch_size(16, mesh)
  with pytest.raises(ValueError, match='batch_size=12 .* multiple of 8'):
    sharding.check_batch_size(12, mesh)
  sharding.check_batch_size(16, mesh, microbatches=2)
  # Each device would compute all 8 rows of a part: more work, no less memory.
  with pytest.raises(ValueError, match='multiple of 32 .* microbatches=4'):
    sharding.check_batch_size(16, mesh, microbatches=4)


def test_rows_of_a_process_follow_its_devices():
  # data x fsdp = 4 groups of 2 devices; process 2 shares group 3 with 1.
  processes = np.array([[0, 0], [1, 1], [0, 0], [1, 2]])
  device = lambda p: types.SimpleNamespace(process_index=p)
  mesh = types.SimpleNamespace(
      devices=np.vectorize(device)(processes).reshape(2, 2, 2),
      shape=dict(data=2, fsdp=2, seq=2), size=8,
  )
  rows = [sharding.process_rows(8, mesh, process) for process in range(3)]
  assert rows == [[0, 1, 4, 5], [2, 3, 6, 7], [6, 7]]
  with pytest.raises(ValueError, match='batch_size=6 .* multiple of 4'):
    sharding.process_rows(6, mesh, 0)


def test_put_batch_keeps_values():
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  batch = {'x': np.arange(6.0).reshape(3, 2)}
  placed = sharding.put_batch(batch, mesh)
  np.testing.assert_array_equal(placed['x'], batch['x'])


@pytest.mark.parametrize(
    'axes',
    [('batch',), ('data', 'data'), (None, None, 'seq'), (('data', 'x'),)],
)
def test_constrain_refuses_unknown_repeated_and_surplus_axes(axes):
  with pytest.raises(ValueError, match='cannot constrain'):
    sharding.constrain(jnp.zeros((2, 2)), *axes)


def test_constrain_without_a_mesh_is_the_identity():
  x = jnp.zeros((2, 2))
  assert sharding.constrain(x, 'data', None) is x
