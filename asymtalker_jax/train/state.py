"""Everything that a training step changes, as plain dataclasses of arrays."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from asymtalker_jax.parallel import sharding
from asymtalker_jax.types import Params

Rule = Callable[[Any, jax.sharding.Mesh], Any]
# What may wait in the memory of the host between steps -> fields of the states.
HOST_MEMORY = {
    'ema': ('ema',),
    'optimizer': ('opt_state', 'student_opt', 'critic_opt'),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
  """State of a loop that trains one network (VAE, teacher, reader).

  Attributes:
    step: [] int32, steps taken.
    params: what is trained.
    opt_state: of the optimiser of `params`.
    ema: moving average of `params`, or None where none is kept.
  """

  step: jax.Array
  params: Params
  opt_state: optax.OptState
  ema: Params | None

  @classmethod
  def create(
      cls,
      params: Params,
      tx: optax.GradientTransformation,
      *,
      ema: bool = True,
  ) -> 'TrainState':
    """Returns the state at step 0; the average starts at the parameters."""
    return cls(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        ema=copy(params) if ema else None,
    )

  def with_parameters(self, params: Params) -> 'TrainState':
    """Returns the state with other parameters, laid out like its own."""
    return dataclasses.replace(
        self,
        params=_like(params, self.params),
        ema=None if self.ema is None else _like(params, self.ema),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentState:
  """State of the distillation; the frozen teacher is not part of it.

  Attributes:
    step: [] int32, updates so far, of the student or of the critic.
    student: parameters of the few-step generator.
    ema: moving average of `student`, or None.
    critic: parameters of the fake score.
    student_opt: optimiser state of `student`.
    critic_opt: optimiser state of `critic`.
  """

  step: jax.Array
  student: Params
  ema: Params | None
  critic: Params
  student_opt: optax.OptState
  critic_opt: optax.OptState

  @classmethod
  def create(
      cls,
      teacher: Params,
      student_tx: optax.GradientTransformation,
      critic_tx: optax.GradientTransformation,
      *,
      ema: bool = True,
  ) -> 'StudentState':
    """Returns the state at step 0: student and critic start as the teacher."""
    return cls(
        step=jnp.zeros((), jnp.int32),
        student=copy(teacher),
        ema=copy(teacher) if ema else None,
        critic=copy(teacher),
        student_opt=student_tx.init(teacher),
        critic_opt=critic_tx.init(teacher),
    )

  def with_parameters(
      self, params: Params, critic: Params | None = None
  ) -> 'StudentState':
    """Returns the state with another student and, if given, critic."""
    return dataclasses.replace(
        self,
        student=_like(params, self.student),
        ema=None if self.ema is None else _like(params, self.ema),
        critic=self.critic if critic is None else _like(critic, self.critic),
    )


def copy(tree: Any) -> Any:
  """Returns a tree with buffers of its own, so that it can be donated."""
  return jax.tree.map(jnp.copy, tree)


def _like(tree: Any, like: Any) -> Any:
  """Returns a tree with the types and shardings of another one, copied."""
  return jax.tree.map(
      lambda x, y: jax.device_put(jnp.copy(x).astype(y.dtype), y.sharding),
      tree, like,
  )


def placement(host_memory: Sequence[str]) -> Rule:
  """Returns the FSDP rule for a state of which a part waits on the host.

  Args:
    host_memory: names of HOST_MEMORY. A step fetches these arrays and puts
      them back, see `program.jit_step`.

  Raises:
    ValueError: unknown names; when it is applied: devices without such memory.
  """
  unknown = sorted(set(host_memory) - set(HOST_MEMORY))
  if unknown:
    raise ValueError(
        f'host_memory {unknown}: expected some of {list(HOST_MEMORY)}'
    )
  fields = {f for name in host_memory for f in HOST_MEMORY[name]}

  def rule(state, mesh):
    shardings = sharding.fsdp_sharding(state, mesh)
    if not fields:
      return shardings
    moved = {
        f.name: sharding.on_host(getattr(state, f.name), mesh)
        for f in dataclasses.fields(state) if f.name in fields
    }
    return dataclasses.replace(shardings, **moved)

  return rule


def average_on_device(state: Any) -> Any:
  """Returns the state with its EMA on the devices, for evaluations."""
  def here(x):
    if x.sharding.memory_kind != sharding.HOST:
      return x
    return jax.device_put(x, x.sharding.with_memory_kind('device'))

  return dataclasses.replace(state, ema=jax.tree.map(here, state.ema))


def create_sharded(
    init_fn: Callable[..., Any],
    mesh: jax.sharding.Mesh,
    rule: Rule = sharding.fsdp_sharding,
    args: tuple[Any, ...] = (),
) -> Any:
  """Returns `init_fn(*args)`, every leaf created once and already sharded.

  The optimiser's init has to be part of `init_fn`: on its own,
  `jit(tx.init)` without out_shardings leaves Adam's state on one device.

  Args:
    init_fn: builds a whole state, for example
      `lambda key: TrainState.create(networks.init(key)['dit'], tx)`.
    mesh: of `parallel.mesh.make_mesh`.
    rule: tree of shapes, mesh -> tree of shardings.
    args: arguments of `init_fn`. Large arrays (a teacher's parameters) belong
      here, not in a closure, where they would become constants of the program.
  """
  with jax.set_mesh(mesh):
    shardings = rule(jax.eval_shape(init_fn, *args), mesh)
    return jax.jit(init_fn, out_shardings=shardings)(*args)


def abstract_sharded(
    init_fn: Callable[..., Any],
    mesh: jax.sharding.Mesh,
    rule: Rule = sharding.fsdp_sharding,
    args: tuple[Any, ...] = (),
) -> Any:
  """Returns what `create_sharded` would, as ShapeDtypeStructs: no memory."""
  with jax.set_mesh(mesh):
    shapes = jax.eval_shape(init_fn, *args)
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      rule(shapes, mesh),
  )
