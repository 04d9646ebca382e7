"""Optimisers from a config section, and the moving average of parameters."""

import dataclasses
import math
from typing import Any, Mapping

import jax
import jax.numpy as jnp
import optax
from optax import contrib

NAMES = ('adamw', 'muon')
SCHEDULES = ('constant', 'cosine')


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """One `optimizer` section of a config.

  Attributes:
    name: 'adamw', or 'muon' (kernels by Muon, everything else by AdamW).
    lr: peak learning rate.
    warmup_steps: linear warm-up from 0.
    schedule: after the warm-up: 'constant', or 'cosine' down to
      `final_lr_ratio * lr` at `total_steps`.
    total_steps: length of the run including the warm-up; for 'cosine'.
    final_lr_ratio: see `schedule`.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: AdamW's epsilon.
    weight_decay: decoupled, on kernels only (not biases, norms, modulation).
    clip_norm: gradients are scaled down to this global norm; 0 is off.
    muon_beta: momentum of Muon.
    muon_lr_ratio: Muon's learning rate over `lr`. Its updates are scaled to
      the root mean square of AdamW's, so that 1 is a sensible start.
  """

  name: str = 'adamw'
  lr: float
  warmup_steps: int = 0
  schedule: str = 'constant'
  total_steps: int = 0
  final_lr_ratio: float = 0.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 0.0
  clip_norm: float = 0.0
  muon_beta: float = 0.95
  muon_lr_ratio: float = 1.0

  def __post_init__(self):
    for field, choices in (('name', NAMES), ('schedule', SCHEDULES)):
      if getattr(self, field) not in choices:
        raise ValueError(
            f'optimizer.{field}={getattr(self, field)!r}: expected one of'
            f' {list(choices)}'
        )
    for field in ('lr', 'warmup_steps', 'weight_decay', 'clip_norm'):
      value = getattr(self, field)
      if not (math.isfinite(value) and value >= 0):
        raise ValueError(f'optimizer.{field}={value}: expected >= 0')
    for field in ('b1', 'b2', 'muon_beta'):
      value = getattr(self, field)
      if not 0 <= value < 1:
        raise ValueError(
            f'optimizer.{field}={value}: expected at least 0 and below 1'
        )
    for field, most in (('final_lr_ratio', 1.0), ('muon_lr_ratio', math.inf)):
      value = getattr(self, field)
      if not 0 <= value <= most:
        raise ValueError(f'optimizer.{field}={value}: expected 0 to {most:g}')
    if self.schedule == 'cosine' and self.total_steps <= self.warmup_steps:
      raise ValueError(
          f'optimizer.total_steps={self.total_steps}: a cosine schedule needs'
          f' more than warmup_steps={self.warmup_steps}'
      )


def parse(section: Mapping[str, Any]) -> OptimizerConfig:
  """Returns the typed section.

  Raises:
    ValueError: an unknown or missing key, or a value out of range.
  """
  section = dict(section)
  known = [field.name for field in dataclasses.fields(OptimizerConfig)]
  unknown = sorted(set(section) - set(known))
  if unknown or 'lr' not in section:
    what = f'unknown key(s) {unknown}' if unknown else "missing key 'lr'"
    raise ValueError(f'optimizer: {what}; expected some of {known}')
  return OptimizerConfig(**section)


def build(
    section: Mapping[str, Any] | OptimizerConfig,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns (optimiser, learning rate as a function of the step).

  Args:
    section: an `optimizer` section of a config (ConfigDict, dict) or parsed.

  Raises:
    ValueError: see `parse`.
  """
  values = section if isinstance(section, OptimizerConfig) else parse(section)
  schedule = build_schedule(values)
  parts = []
  if values.clip_norm:
    parts.append(optax.clip_by_global_norm(values.clip_norm))
  parts.append(_core(values, schedule))
  return optax.chain(*parts), schedule


def build_schedule(values: OptimizerConfig) -> optax.Schedule:
  """Returns the learning rate as a function of the step."""
  if values.schedule == 'cosine':
    return optax.warmup_cosine_decay_schedule(
        init_value=values.lr if not values.warmup_steps else 0.0,
        peak_value=values.lr,
        warmup_steps=values.warmup_steps,
        decay_steps=values.total_steps,
        end_value=values.lr * values.final_lr_ratio,
    )
  if not values.warmup_steps:
    return optax.constant_schedule(values.lr)
  return optax.linear_schedule(0.0, values.lr, values.warmup_steps)


def _core(
    values: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """Returns the optimiser without clipping."""
  if values.name == 'adamw':
    return optax.adamw(
        schedule,
        b1=values.b1,
        b2=values.b2,
        eps=values.eps,
        weight_decay=values.weight_decay,
        mask=kernel_mask,
    )
  return contrib.muon(
      lambda step: schedule(step) * values.muon_lr_ratio,
      beta=values.muon_beta,
      weight_decay=values.weight_decay,
      adam_b1=values.b1,
      adam_b2=values.b2,
      adam_learning_rate=schedule,
      consistent_rms=0.2,
      muon_weight_dimension_numbers=muon_dimensions,
  )


def kernel_mask(params: Any) -> Any:
  """Returns True for every leaf named 'kernel'."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: _leaf_name(path) == 'kernel', params
  )


def muon_dimensions(params: Any) -> Any:
  """Returns for each leaf the matrix that Muon orthogonalises, or None.

  Kernels [in, out] are matrices; kernels [layers, in, out] of a scanned stack
  are `layers` matrices (the axis that is not named is batched over); kernels
  of convolutions [..., in, out] are one matrix whose rows are all taps and
  inputs. Biases, norms and tables stay with AdamW.
  """

  def dimensions(path, x):
    if _leaf_name(path) != 'kernel' or x.ndim < 2:
      return None
    rows = (x.ndim - 2,) if x.ndim == 3 else tuple(range(x.ndim - 1))
    return contrib.MuonDimensionNumbers(
        reduction_axis=rows, output_axis=x.ndim - 1
    )

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _leaf_name(path: tuple[Any, ...]) -> str:
  last = path[-1] if path else ''
  return str(getattr(last, 'key', getattr(last, 'name', last)))


def ema_update(
    ema: Any, params: Any, decay: float, step: jax.Array, start: int = 0
) -> Any:
  """Returns the moving average after a step.

  Args:
    ema: average so far, float32.
    params: parameters after the step.
    decay: weight of the old average, in [0, 1).
    step: [] steps taken including this one.
    start: until this step the average is a copy of `params`, so that the
      first, fast-changing steps leave no trace.
  """
  weight = jnp.where(step > start, decay, 0.0)
  return jax.tree.map(lambda e, p: p + weight * (e - p).astype(e.dtype), ema,
                      params)


def norms(
    section: Mapping[str, Any], grads: Any, params: Any
) -> dict[str, jax.Array]:
  """Returns scalars to log of one role: what a broken run shows first.

  Args:
    section: the role's `optimizer` section of a config.
    grads: before clipping.
    params: after the step.

  Returns:
    gradient, parameters: global norms; clipped: 1 where the gradient was
    scaled down, so that its mean over steps is the share of clipped steps.
  """
  gradient = optax.tree.norm(grads)
  clip = parse(section).clip_norm
  clipped = gradient > clip if clip else jnp.zeros((), bool)
  return {
      'gradient': gradient,
      'parameters': optax.tree.norm(params),
      'clipped': clipped.astype(jnp.float32),
  }


def descend(
    state: Any,
    grads: Any,
    tx: optax.GradientTransformation,
    ema: Mapping[str, Any],
) -> Any:
  """Returns the `TrainState` after one step of the optimiser.

  Args:
    state: of the loop.
    grads: of the loss with respect to `state.params`.
    tx: of `build`.
    ema: config section with decay and start_step.
  """
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return dataclasses.replace(
      state,
      step=state.step + 1,
      params=params,
      opt_state=opt_state,
      ema=ema_update(
          state.ema, params, ema['decay'], state.step + 1, ema['start_step']
      ),
  )
