"""The device mesh: three named axes, of which one device is the common case."""

import math
from typing import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType
import numpy as np

DATA = 'data'  # Examples; parameters are replicated along it.
FSDP = 'fsdp'  # Examples as well; parameters are sharded along it.
SEQ = 'seq'  # Tokens of one example.
AXES = (DATA, FSDP, SEQ)


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    seq: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """Returns a mesh with the axes ('data', 'fsdp', 'seq').

  Devices that share a process (and on TPU a slice) are neighbours along the
  last axes, where the traffic is: 'data', which moves one gradient per step,
  is the outermost axis and the one that crosses slow links.

  Args:
    data: size of the data axis; -1 takes the devices that the others leave.
    fsdp: size of the axis that shards parameters; -1 likewise.
    seq: size of the axis that shards tokens; -1 likewise.
    devices: the devices to use, all of them when None.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  sizes = _fill(dict(zip(AXES, (data, fsdp, seq))), len(devices))
  types = (AxisType.Auto,) * len(AXES)
  slices = {getattr(d, 'slice_index', 0) for d in devices}
  array = _place(devices, sizes, len(slices))
  return jax.sharding.Mesh(array, AXES, axis_types=types)


def described(platform_name: str) -> jax.sharding.AbstractMesh:
  """A mesh of one device that need not be there, for tracing as if on it."""
  return jax.sharding.AbstractMesh(
      (1,) * len(AXES), AXES, axis_types=(AxisType.Auto,) * len(AXES),
      abstract_device=jax.sharding.AbstractDevice(
          platform_name, None, platform_name
      ),
  )


def platform() -> str:
  """Returns 'cpu', 'gpu' or 'tpu': that of the mesh in use, else the default.

  A mesh may consist of devices that are described but not there: see
  `asymtalker compile-check`.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def _fill(sizes: dict[str, int], count: int) -> tuple[int, ...]:
  """Returns the three sizes with -1 replaced, or raises."""
  asked = ' '.join(f'{name}={size}' for name, size in sizes.items())
  free = [name for name, size in sizes.items() if size == -1]
  bad = [name for name, size in sizes.items() if size < 1 and size != -1]
  if bad or len(free) > 1:
    raise ValueError(
        f'mesh {asked}: sizes are positive, and at most one may be -1'
    )
  fixed = math.prod(size for size in sizes.values() if size != -1)
  if count % fixed or (not free and fixed != count):
    divisors = [n for n in range(1, count + 1) if count % n == 0]
    raise ValueError(
        f'mesh {asked} does not fit {count} device(s): sizes must multiply to'
        f' {count}, so each is one of {divisors} (one may be -1)'
    )
  return tuple(count // fixed if s == -1 else s for s in sizes.values())


def _place(
    devices: Sequence[jax.Device], sizes: tuple[int, ...], slices: int
) -> np.ndarray:
  """Returns a [data, fsdp, seq] array; slices lie along 'data' only."""
  if slices == 1:
    # An axis may be a part of an axis of the torus: 2 x 32 of a 4x4x4 slice.
    return mesh_utils.create_device_mesh(
        sizes, devices, allow_split_physical_axes=True
    )
  if sizes[0] % slices:
    raise ValueError(
        f'mesh data={sizes[0]} must be a multiple of the {slices} slices:'
        " 'data' is the only axis that crosses them"
    )
  inside = (sizes[0] // slices,) + tuple(sizes[1:])
  return mesh_utils.create_hybrid_device_mesh(
      inside, (slices, 1, 1), devices=devices, allow_split_physical_axes=True
  )
