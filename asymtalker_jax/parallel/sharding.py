"""Where arrays live on the mesh: one rule for state, one for batches.

The rule is a function of a leaf's shape alone. Adam's moments and the EMA have
the shapes of the parameters, so they land where the parameters are without
being mentioned.
"""

import math
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from asymtalker_jax.parallel import mesh as mesh_lib

# Leaves of fewer elements are replicated: gathering them costs more latency
# than their memory is worth.
MIN_SIZE = 2**14
HOST = 'pinned_host'  # Kind of memory.


def fsdp_spec(
    shape: tuple[int, ...], fsdp: int, min_size: int = MIN_SIZE
) -> PartitionSpec:
  """Returns the spec of one leaf: its largest divisible axis over 'fsdp'.

  Args:
    shape: of the leaf.
    fsdp: size of the mesh axis.
    min_size: leaves with fewer elements are replicated.
  """
  if fsdp == 1 or math.prod(shape) < min_size:
    return PartitionSpec()
  divisible = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
  if not divisible:
    return PartitionSpec()
  # The last of equally large axes: outputs, so that a matmul needs no sum.
  axis = max(divisible, key=lambda a: (shape[a], a))
  return PartitionSpec(*([None] * axis), mesh_lib.FSDP)


def fsdp_sharding(
    tree: Any, mesh: jax.sharding.Mesh, min_size: int = MIN_SIZE
) -> Any:
  """Returns a tree of NamedSharding for a tree of arrays or shapes.

  Args:
    tree: leaves with `.shape`: parameters, optimiser state, a whole state.
    mesh: of `mesh.make_mesh`.
    min_size: leaves with fewer elements are replicated.
  """
  fsdp = mesh.shape[mesh_lib.FSDP]
  return jax.tree.map(
      lambda x: NamedSharding(mesh, fsdp_spec(x.shape, fsdp, min_size)), tree
  )


def on_host(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns `fsdp_sharding` in the pinned memory of the host.

  Leaves below MIN_SIZE stay on the device: fetching them is all latency.

  Raises:
    ValueError: the devices have no such memory.
  """
  kinds = sorted(m.kind for m in mesh.devices.flat[0].addressable_memories())
  if HOST not in kinds:
    raise ValueError(
        f'host_memory needs memory of kind {HOST!r}: these devices have'
        f' {kinds}; use host_memory=()'
    )
  return jax.tree.map(
      lambda x, s: s if x.size < MIN_SIZE else s.with_memory_kind(HOST),
      tree, fsdp_sharding(tree, mesh),
  )


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns the sharding of a batch: leading axis over data x fsdp."""
  return NamedSharding(mesh, PartitionSpec((mesh_lib.DATA, mesh_lib.FSDP)))


def check_batch_size(
    batch_size: int, mesh: jax.sharding.Mesh, microbatches: int = 1
) -> None:
  """Raises ValueError unless the mesh divides every part of a global batch;
  a part that it does not divide would be computed whole on each device."""
  data, fsdp = mesh.shape[mesh_lib.DATA], mesh.shape[mesh_lib.FSDP]
  if batch_size < 1 or batch_size % (data * fsdp * microbatches):
    times = f' x microbatches={microbatches}' if microbatches > 1 else ''
    raise ValueError(
        f'batch_size={batch_size} must be a positive multiple of'
        f' {data * fsdp * microbatches} (mesh data={data} x fsdp={fsdp}{times})'
    )


def process_rows(
    batch_size: int, mesh: jax.sharding.Mesh, process: int | None = None
) -> list[int]:
  """Returns the rows of a global batch that the devices of a process need.

  On a torus of TPUs they are neither consecutive nor different for every
  process: devices along 'seq' need the same row.

  Args:
    batch_size: over all processes.
    mesh: of `mesh.make_mesh`.
    process: its number; this one when None.

  Raises:
    ValueError: the mesh does not divide the batch.
  """
  check_batch_size(batch_size, mesh)
  groups = _row_groups(mesh, process)
  size = batch_size // (mesh.size // mesh.shape[mesh_lib.SEQ])
  return [g * size + i for g in groups for i in range(size)]


def _row_groups(
    mesh: jax.sharding.Mesh, process: int | None = None
) -> list[int]:
  """Which of the data x fsdp parts of a batch lie on devices of a process."""
  process = jax.process_index() if process is None else process
  by_rows = mesh.devices.reshape(-1, mesh.shape[mesh_lib.SEQ])
  return [
      g for g, devices in enumerate(by_rows)
      if any(d.process_index == process for d in devices)
  ]


def put_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns the global device batch of this process's host rows.

  Args:
    batch: tree of numpy arrays [b, ...]: the rows of `process_rows`.
    mesh: of `mesh.make_mesh`.

  Raises:
    ValueError: the mesh does not divide the batch.
  """
  target = batch_sharding(mesh)
  leaves = jax.tree.leaves(batch)
  if jax.process_count() == 1:
    if leaves:
      check_batch_size(leaves[0].shape[0], mesh)
    return jax.device_put(batch, target)
  groups = _row_groups(mesh)
  parts = mesh.size // mesh.shape[mesh_lib.SEQ]
  if leaves and leaves[0].shape[0] % len(groups):
    raise ValueError(
        f'{leaves[0].shape[0]} rows on process {jax.process_index()}: expected'
        f' a multiple of its {len(groups)} parts of the batch'
    )

  def put(x):
    size = x.shape[0] // len(groups)

    def part(index):
      own = groups.index((index[0].start or 0) // size)
      return x[own * size : (own + 1) * size]

    shape = (size * parts, *x.shape[1:])
    return jax.make_array_from_callback(shape, target, part)

  return jax.tree.map(put, batch)


def constrain(
    x: jax.Array,
    *axes: str | tuple[str, ...] | None,
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
  """Returns x with its layout pinned; x itself where no mesh is set.

  Args:
    x: array inside a jitted function.
    *axes: for each leading axis of x a mesh axis, a tuple of them, or None.
    mesh: the mesh; the one of `jax.set_mesh` when None.

  Raises:
    ValueError: an axis that meshes do not have, or more axes than x has.
  """
  named = [a for axis in axes for a in _names(axis)]
  unknown = [name for name in named if name not in mesh_lib.AXES]
  if unknown or len(set(named)) != len(named) or len(axes) > x.ndim:
    raise ValueError(
        f'cannot constrain an array of shape {x.shape} to {axes}: each axis is'
        f' used once and is one of {mesh_lib.AXES}'
    )
  spec = PartitionSpec(*axes)
  if mesh is not None:
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, spec)


def activation_spec(
    shape: tuple[int, ...], mesh: Any, seq_axis: int | None = None
) -> PartitionSpec:
  """Returns the spec of an activation: examples first, tokens or rows later.

  Args:
    shape: of the activation; its leading axis counts examples.
    mesh: Mesh or AbstractMesh.
    seq_axis: which axis lies over 'seq'; None keeps it whole.

  Returns:
    Leading axis over data x fsdp, `seq_axis` over seq. An axis that the mesh
    does not divide stays whole: one example is generated on every device.
  """
  axes = [None] * len(shape)
  batch = (mesh_lib.DATA, mesh_lib.FSDP)
  if shape[0] % math.prod(mesh.shape[a] for a in batch) == 0:
    axes[0] = batch
  if seq_axis is not None and shape[seq_axis] % mesh.shape[mesh_lib.SEQ] == 0:
    axes[seq_axis] = mesh_lib.SEQ
  return PartitionSpec(*axes)


def constrain_activation(
    x: jax.Array, seq_axis: int | None = None
) -> jax.Array:
  """Returns x laid out by `activation_spec`; x itself where no mesh is set."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return constrain(x, *activation_spec(x.shape, mesh, seq_axis))


def put_parameters(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns frozen parameters on the mesh, sharded by the FSDP rule.

  Args:
    tree: of host arrays, equal on all processes.
    mesh: of `mesh.make_mesh`.
  """
  return jax.tree.map(
      lambda x, s: jax.make_array_from_callback(
          x.shape, s, lambda index, x=x: np.asarray(x[index])
      ),
      tree,
      fsdp_sharding(tree, mesh),
  )


def to_host(tree: Any) -> Any:
  """Returns the leaves as whole numpy arrays, on every process.

  All processes have to call it. One leaf at a time is whole on the devices.
  """

  def whole(x):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(whole, tree)


def _names(axis: str | tuple[str, ...] | None) -> tuple[str, ...]:
  if axis is None:
    return ()
  return (axis,) if isinstance(axis, str) else tuple(axis)
