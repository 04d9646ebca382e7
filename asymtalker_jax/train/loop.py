"""What the training loops share: resume, batches, steps, metrics, saves, stop.

A loop brings three things: how its state is made, one pure step, and batches.
"""

import dataclasses
import functools
import json
import os
import time
from typing import Any, Callable, Mapping, Sequence

from absl import logging
import jax
from jax.experimental import multihost_utils
import numpy as np

from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import checkpoint
from asymtalker_jax.train import metrics as metrics_lib
from asymtalker_jax.train import state as state_lib

KEYS = ('seed', 'steps', 'max_minutes', 'batch_size', 'log_every',
        'save_every_minutes', 'eval_every')
# step_fn(state, batch, key[, frozen]) -> (state, {name: [] array}), pure.
StepFn = Callable[..., tuple[Any, Mapping[str, jax.Array]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """How a run ended.

  Attributes:
    state: after the last step, saved.
    step: steps taken in all.
    stopped: 'steps' (all taken), 'time' (max_minutes) or 'sigterm'.
  """

  state: Any
  step: int
  stopped: str


def train(
    config: Mapping[str, Any],
    workdir: str,
    init_fn: Callable[..., Any],
    step_fn: StepFn | Mapping[str, StepFn],
    batches: Any,
    *,
    init_args: tuple[Any, ...] = (),
    frozen: Any = None,
    pick: Callable[[int], str | Sequence[str]] | None = None,
    on_eval: Callable[..., Mapping[str, float] | None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
    rule: state_lib.Rule = sharding.fsdp_sharding,
) -> Result:
  """Trains from the newest checkpoint in `workdir`, or from the beginning.

  Args:
    config: with KEYS. `eval_every` and `max_minutes` may be 0 for never;
      `max_minutes` counts the wall clock over all resumes.
    workdir: of this run: checkpoints, metrics.jsonl, tensorboard, samples.
    init_fn: builds the state at step 0 from `init_args`; it has `.step`.
    step_fn: see `StepFn`; jitted here, its state donated. The key is that of
      the step: the same step has the same noise after a resume. A dict names
      several, of which `pick` chooses.
    batches: iterator with `get_state` and `set_state` (`inputs.loader`).
    init_args: arrays that `init_fn` starts from.
    frozen: arrays that the step reads and never changes (a teacher), passed
      as its last argument; not in the checkpoint.
    pick: steps taken -> name or names in `step_fn`, run in this order, each on
      a batch and with a key of its own; together they add 1 to `state.step`.
    on_eval: (state, step, writer) -> scalars to write, or None; called every
      `eval_every` steps and at the end.
    mesh: one data axis over all devices when None.
    rule: places the state on the mesh.

  Raises:
    ValueError: missing config keys, a batch the mesh does not divide, or a
      checkpoint of another config.
    FloatingPointError: a metric is not finite.
  """
  config = checkpoint.plain(config)
  missing = [key for key in KEYS if key not in config]
  if missing:
    raise ValueError(f'config lacks {missing}; a training needs {list(KEYS)}')
  mesh = mesh_lib.make_mesh() if mesh is None else mesh
  sharding.check_batch_size(config['batch_size'], mesh)
  _write_config(workdir, config)
  saver = checkpoint.Checkpointer(
      os.path.join(workdir, 'checkpoints'), config,
      save_every_minutes=config['save_every_minutes'],
  )
  with jax.set_mesh(mesh):
    run = _Run(config, workdir, mesh, saver, batches, on_eval)
    try:
      run.resume(init_fn, init_args, rule)
      run.prepare(step_fn, frozen, pick)
      return run.run()
    finally:
      run.close()


class _Run:
  """One process's part of a run, from resume to close."""

  def __init__(self, config, workdir, mesh, saver, batches, on_eval):
    self._config, self._workdir, self._mesh = config, workdir, mesh
    self._saver, self._batches, self._on_eval = saver, batches, on_eval
    self._writer = None
    self._started = time.monotonic()

  def resume(self, init_fn, init_args, rule) -> None:
    """Gets state, iterator and clock; see `checkpoint.restore_or_init`."""
    abstract = state_lib.abstract_sharded(init_fn, self._mesh, rule, init_args)
    found = self._saver.restore_or_init(
        abstract,
        lambda: state_lib.create_sharded(init_fn, self._mesh, rule, init_args),
    )
    self._batches.set_state(found.iterator)
    self._state, self._seconds_before = found.state, found.seconds
    self._step = int(jax.device_get(found.state.step))
    self._shardings = jax.tree.map(lambda x: x.sharding, abstract)
    self._writer = metrics_lib.MetricWriter(
        self._workdir, self._step, self._config['steps']
    )
    self._saver.catch_sigterm()

  def prepare(self, step_fn, frozen, pick) -> None:
    """Jits the step function(s)."""
    named = dict(step_fn) if isinstance(step_fn, Mapping) else {'': step_fn}
    if len(named) > 1 and pick is None:
      raise ValueError(f'several step functions {list(named)} need `pick`')
    replicated = sharding.replicated(self._mesh)
    self._compiled = set()
    self._frozen = () if frozen is None else (frozen,)
    self._pick = pick or (lambda step: tuple(named))
    self._key = jax.device_put(jax.random.key(self._config['seed']), replicated)
    self._steps = {
        name: jax.jit(
            functools.partial(_keyed, fn, stream),
            donate_argnums=0,
            out_shardings=(self._shardings, replicated),
        )
        for stream, (name, fn) in enumerate(named.items())
    }

  def run(self) -> Result:
    """Takes the steps."""
    self._timer = _Timer(self._config['batch_size'])
    log_every, eval_every = (
        self._config[key] for key in ('log_every', 'eval_every')
    )
    evaluated = -1
    while True:
      stopped, save = self._agree()
      if stopped or (save and self._step):
        self._save()
      if stopped:
        break
      scalars = {}
      picked = self._pick(self._step)
      for name in (picked,) if isinstance(picked, str) else picked:
        scalars |= self._take(name)
      self._step += 1
      self._writer.push(self._step, scalars)
      if self._step % log_every == 0:
        self._writer.log(self._step, self._timer.report())
      if eval_every and self._step % eval_every == 0:
        self._evaluate()
        evaluated = self._step
    if stopped == 'steps' and evaluated != self._step:
      self._evaluate()
    self._writer.flush()
    self._saver.wait()
    logging.info('Stopped at step %d: %s', self._step, stopped)
    return Result(state=self._state, step=self._step, stopped=stopped)

  def close(self) -> None:
    """Closes what is open, also after an error."""
    if self._writer is not None:
      self._writer.close()
    self._saver.close()

  def _take(self, name: str) -> Mapping[str, jax.Array]:
    """Starts one step; returns its metrics, still being computed."""
    if name not in self._compiled:
      # While a program compiles, its constants may go to the device.
      with self._timer.compile():
        scalars = self._start(name)
        jax.block_until_ready(self._state)
      self._compiled.add(name)
      return scalars
    # Nothing is read back inside a step; constants of a program may go there.
    with jax.transfer_guard_device_to_host('disallow'):
      return self._start(name)

  def _start(self, name: str) -> Mapping[str, jax.Array]:
    with self._timer.data():
      batch = sharding.put_batch(next(self._batches), self._mesh)
    self._state, scalars = self._steps[name](
        self._state, batch, self._key, *self._frozen
    )
    return scalars

  def _seconds(self) -> float:
    return self._seconds_before + time.monotonic() - self._started

  def _agree(self) -> tuple[str, bool]:
    """Returns (why to stop or '', whether to save), equal on all processes."""
    if self._step >= self._config['steps']:
      return 'steps', True
    if self._saver.preempted(self._step):
      return 'sigterm', True
    minutes = self._config['max_minutes']
    over = bool(minutes) and self._seconds() >= 60 * minutes
    due = self._saver.save_due()
    if jax.process_count() > 1:
      # Clocks differ; host 0's decides, asked for now and then only.
      if self._step % self._config['log_every']:
        return '', False
      over, due = multihost_utils.broadcast_one_to_all(np.array([over, due]))
    return ('time' if over else ''), bool(due)

  def _save(self) -> None:
    """Saves; a state that is not finite never replaces a good checkpoint."""
    with self._timer.pause():
      self._writer.flush()
      counted = int(jax.device_get(self._state.step))
      if counted != self._step:
        raise RuntimeError(
            f'after {self._step} steps state.step is {counted}: the functions'
            ' picked for one step must add 1 to it, or a resume goes wrong'
        )
      self._saver.save(
          self._step,
          checkpoint.Checkpoint(
              state=self._state,
              iterator=self._batches.get_state(),
              seconds=self._seconds(),
          ),
      )

  def _evaluate(self) -> None:
    if self._on_eval is None:
      return
    with self._timer.pause():
      values = self._on_eval(self._state, self._step, self._writer)
    if values:
      self._writer.scalars(self._step, values)


class _Timer:
  """Wall time per step since the last report, by part."""

  def __init__(self, batch_size: int):
    self._batch_size = batch_size
    self._reset()

  def _reset(self) -> None:
    self._began = time.monotonic()
    self._data_s = self._paused_s = self._compile_s = 0.0
    self._batches = 0

  def data(self) -> '_Span':
    """Context: waiting for a batch and handing it to the device."""
    return _Span(self._on_data)

  def pause(self) -> '_Span':
    """Context: not part of the step time (save, evaluation)."""
    return _Span(self._on_pause)

  def compile(self) -> '_Span':
    """Context: the first call of a program."""
    return _Span(self._on_compile)

  def report(self) -> dict[str, float]:
    """Returns what happened since the last report, in seconds.

    Step time and rate are per batch taken, without compiling and pauses.
    """
    elapsed = time.monotonic() - self._began - self._paused_s
    values = {}
    if self._batches:
      values = {
          'time/step_s': elapsed / self._batches,
          'time/data_wait_s': self._data_s / self._batches,
          'time/examples_per_s': self._batch_size * self._batches / elapsed,
      }
    if self._compile_s:
      values['time/compile_s'] = self._compile_s
    self._reset()
    return values

  def _on_data(self, seconds: float) -> None:
    self._data_s += seconds
    self._batches += 1

  def _on_pause(self, seconds: float) -> None:
    self._paused_s += seconds

  def _on_compile(self, seconds: float) -> None:
    # Its batch does not count, whose wait is that for the first batch of all.
    self._compile_s += seconds
    self._paused_s += seconds
    self._batches -= 1
    self._data_s = 0.0


class _Span:
  """Context manager that tells a function how long it took."""

  def __init__(self, tell: Callable[[float], None]):
    self._tell = tell

  def __enter__(self):
    self._began = time.monotonic()

  def __exit__(self, *unused):
    self._tell(time.monotonic() - self._began)


def _keyed(step_fn: StepFn, stream: int, state, batch, key, *frozen):
  """The step with the key of its step number and of its kind."""
  key = jax.random.fold_in(jax.random.fold_in(key, state.step), stream)
  return step_fn(state, batch, key, *frozen)


def _write_config(workdir: str, config: Mapping[str, Any]) -> None:
  """Notes the config beside the metrics, for people."""
  if jax.process_index():
    return
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'config.json')
  with open(path + '.tmp', 'w') as f:
    json.dump(config, f, indent=1)
  os.replace(path + '.tmp', path)
