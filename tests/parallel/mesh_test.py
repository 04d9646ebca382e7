"""Mesh sizes; several devices are in eight_devices_test.py."""

import types

import jax
from jax.sharding import AxisType
import pytest

from asymtalker_jax.parallel import mesh as mesh_lib


def test_one_device_makes_a_mesh_of_ones_with_auto_axes():
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 1, 'seq': 1}
  assert mesh.axis_types == (AxisType.Auto,) * 3


@pytest.mark.parametrize(
    'asked, sizes',
    [
        (dict(), (8, 1, 1)),
        (dict(fsdp=4), (2, 4, 1)),
        (dict(data=2, fsdp=-1), (2, 4, 1)),
        (dict(data=1, fsdp=2, seq=-1), (1, 2, 4)),
    ],
)
def test_minus_one_takes_the_devices_that_are_left(asked, sizes):
  asked = dict(data=-1, fsdp=1, seq=1) | asked
  assert mesh_lib._fill(asked, 8) == sizes


@pytest.mark.parametrize(
    'asked, words',
    [
        (dict(fsdp=3), ['data=-1 fsdp=3 seq=1', '8 device', '[1, 2, 4, 8]']),
        (dict(data=2, fsdp=2), ['8 device']),
        (dict(data=-1, fsdp=-1), ['at most one']),
        (dict(fsdp=0), ['positive']),
    ],
)
def test_sizes_that_do_not_fit_are_named_with_the_choices(asked, words):
  with pytest.raises(ValueError) as error:
    mesh_lib._fill(dict(data=-1, fsdp=1, seq=1) | asked, 8)
  assert all(word in str(error.value) for word in words)
  assert '\n' not in str(error.value)


def test_slices_lie_along_data_only():
  devices = [
      types.SimpleNamespace(
          id=i, slice_index=i // 4, process_index=i // 4, platform='tpu',
          device_kind='other', coords=(i % 4, 0, 0), core_on_chip=0,
      )
      for i in range(8)
  ]
  array = mesh_lib._place(devices, (2, 4, 1), 2)
  assert array.shape == (2, 4, 1)
  assert [{d.slice_index for d in row.ravel()} for row in array] == [{0}, {1}]
  with pytest.raises(ValueError, match='multiple of the 2 slices'):
    mesh_lib._place(devices, (1, 8, 1), 2)


def test_axes_may_be_parts_of_the_axes_of_a_torus():
  devices = [
      types.SimpleNamespace(
          id=i, process_index=i // 4, platform='tpu', device_kind='TPU v5',
          coords=(i % 4, i // 4 % 4, i // 16), core_on_chip=0,
      )
      for i in range(64)
  ]
  array = mesh_lib._place(devices, (2, 32, 1), 1)
  assert array.shape == (2, 32, 1)
  assert {d.id for d in array.ravel()} == set(range(64))
