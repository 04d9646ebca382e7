"""A training step as a program: how it is jitted, on what, in which portions.

The loop runs these programs, and `compile_report` compiles the same ones for
machines that are not there.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from asymtalker_jax.parallel import sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """A jitted step and what it is called with.

  Attributes:
    name: 'teacher', 'generator', 'critic' or 'generation'.
    function: jitted.
    args: trees of ShapeDtypeStruct with shardings.
    trips: named scope -> mean number of trips of the loop in it whose length
      is drawn at run time.
    examples: in the global batch.
    plain: makes a step that computes the same without recomputing anything;
      its cost is what the step needs.
  """

  name: str
  function: Any
  args: tuple[Any, ...]
  trips: Mapping[str, float]
  examples: int
  plain: Callable[[], Callable[..., Any]]


def jit_step(
    step_fn: Callable[..., Any],
    shardings: Any,
    mesh: jax.sharding.Mesh,
    stream: int = 0,
) -> Any:
  """Returns the jitted step; its state is donated.

  Arrays whose sharding is in the memory of the host are fetched for the step
  and put back; those that the step does not change stay where they are.

  Args:
    step_fn: (state, batch, key, ...) -> (state, {name: [] array}), pure.
    shardings: of the state's leaves, kept by the step.
    mesh: on which the logs are replicated.
    stream: number of the step's kind: each draws noise of its own.
  """
  step = keyed(step_fn, stream)

  def fetched(state, *args):
    here = jax.tree.map(_fetch, state, shardings)
    new, logs = step(here, *args)
    keep = lambda old, used, out: old if out is used else out
    return jax.tree.map(keep, state, here, new), logs

  return jax.jit(
      fetched,
      donate_argnums=0,
      out_shardings=(shardings, sharding.replicated(mesh)),
  )


def _fetch(x: jax.Array, where: jax.sharding.Sharding) -> jax.Array:
  if where.memory_kind != sharding.HOST:
    return x
  return jax.device_put(x, where.with_memory_kind('device'))


def keyed(step_fn: Callable[..., Any], stream: int) -> Callable[..., Any]:
  """Returns the step with the key of its step number and of its kind."""
  return functools.partial(_with_own_key, step_fn, stream)


def _with_own_key(step_fn, stream, state, batch, key, *frozen):
  key = jax.random.fold_in(jax.random.fold_in(key, state.step), stream)
  return step_fn(state, batch, key, *frozen)


def abstract_key(mesh: jax.sharding.Mesh) -> jax.ShapeDtypeStruct:
  """Returns the shape of the run's key."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.ShapeDtypeStruct(
      key.shape, key.dtype, sharding=sharding.replicated(mesh)
  )


def abstract_batch(
    batch: Any, config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> Any:
  """Returns shapes [batch_size, ...] float32 for a tree of shapes of one
  example.

  Raises:
    ValueError: the mesh does not divide the batch or a microbatch.
  """
  size = config.batch_size
  sharding.check_batch_size(size, mesh, config.microbatches)
  return jax.tree.map(
      lambda shape: jax.ShapeDtypeStruct(
          (size, *shape), jnp.float32, sharding=sharding.batch_sharding(mesh)
      ),
      batch,
      is_leaf=lambda x: isinstance(x, tuple),
  )


def mean_over_microbatches(
    function: Callable[[Any], Any], rows: Any, count: int
) -> Any:
  """Returns the mean of function(part) over equal parts, one at a time.

  For means over examples this is function(rows), in the memory of one part:
  gradients of a large batch on few devices.

  Args:
    function: tree [b, ...] -> tree of float32 arrays (gradients, logs).
    rows: tree [B, ...]; part j has the rows j, j + count, ..., which divides
      the rows of every device alike.
    count: number of parts.

  Raises:
    ValueError: `count` does not divide B.
  """
  size = jax.tree.leaves(rows)[0].shape[0]
  if count < 1 or size % count:
    raise ValueError(
        f'microbatches={count}: expected a divisor of batch_size={size}'
    )
  if count == 1:
    return function(rows)
  parts = jax.tree.map(
      lambda x: x.reshape(size // count, count, *x.shape[1:]).swapaxes(0, 1),
      rows,
  )

  def add(total, part):
    part = jax.tree.map(sharding.constrain_activation, part)
    return jax.tree.map(jnp.add, total, function(part)), None

  shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  total, _ = jax.lax.scan(add, zeros, parts)
  return jax.tree.map(lambda x: x / count, total)
