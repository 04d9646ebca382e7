"""What the training loops share: resume, batches, steps, metrics, saves, stop.

A loop brings three things: how its state is made, one pure step, and batches.
Nothing between two steps waits for the device: metrics are read by a thread of
their own, batches are read ahead, checkpoints are written in the background.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
import time
from typing import Any

from absl import logging
import jax
from jax.experimental import multihost_utils
import numpy as np

from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import checkpoint
from asymtalker_jax.train import metrics as metrics_lib
from asymtalker_jax.train import program as program_lib
from asymtalker_jax.train import ranges
from asymtalker_jax.train import start
from asymtalker_jax.train import state as state_lib
from asymtalker_jax.train import throughput

KEYS = ('seed', 'steps', 'max_minutes', 'batch_size', 'log_every',
        'save_every_minutes', 'eval_every', 'checkpoint', 'init_from',
        'host_memory', 'profile_steps')
BUNDLE = 'bundle'  # Folder in that of a run.
CHECKPOINT_KEYS = ('keep', 'best_metric', 'best_mode')
# step_fn(state, batch, key[, frozen]) -> (state, {name: [] array}), pure.
StepFn = Callable[..., tuple[Any, Mapping[str, jax.Array]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """How a run ended.

  Attributes:
    state: after the last step, saved; its average is on the devices.
    step: steps taken in all.
    stopped: 'steps' (all taken), 'time' (max_minutes) or 'sigterm'.
    new: False where the run had ended before it was started, and its bundle
      is there already.
  """

  state: Any
  step: int
  stopped: str
  new: bool = True

  @property
  def at_end(self) -> bool:
    """Whether this start came to the end, so that a bundle is to be written;
    SIGTERM leaves no time for it."""
    return self.new and self.stopped != 'sigterm'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What a run trains, for reports and for `init_from`.

  Attributes:
    part: of a bundle: 'vae', 'teacher' or 'dit'.
    tokens: that an example adds to the loss; 0 where there are none.
    sources: what it learns from, as JSON values; a run does not go on with
      others than it began with.
    programs: makes the steps as shapes, named as the step functions: what they
      need is counted where the peak of the devices is known.
  """

  part: str = ''
  tokens: int = 0
  sources: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  programs: Callable[[], Sequence[program_lib.Program]] = tuple


# --- From the config to a run. ---


def train(
    config: Mapping[str, Any],
    workdir: str,
    init_fn: Callable[..., Any],
    step_fn: StepFn | Mapping[str, StepFn],
    batches: Any,
    *,
    init_args: Callable[[], tuple[Any, ...]] = tuple,
    frozen: Any = None,
    pick: Callable[[int], str | Sequence[str]] | None = None,
    on_eval: Callable[..., Mapping[str, float] | None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
    job: Job = Job(),
) -> Result:
  """Trains from the newest checkpoint in `workdir`, or from the beginning.

  A run that has ended is only read: it is not evaluated again, and its metrics
  and samples stay as they are.

  Args:
    config: with KEYS. `eval_every` and `max_minutes` may be 0 for never;
      `max_minutes` counts the wall clock over all resumes.
    workdir: of this run: checkpoints, metrics.jsonl, tensorboard, samples.
    init_fn: builds the state at step 0 from `init_args`; it has `.step`.
    step_fn: see `StepFn`; jitted here, its state donated. The key is that of
      the step: the same step has the same noise after a resume. A dict names
      several, of which `pick` chooses.
    batches: iterator with `get_state`, `set_state` and `examples`
      (`inputs.loader`).
    init_args: makes the arrays that `init_fn` starts from; nothing holds them
      once there is a state.
    frozen: arrays that the step reads and never changes (a teacher), passed
      as its last argument; not in the checkpoint.
    pick: steps taken -> name or names in `step_fn`, run in this order, each on
      a batch and with a key of its own; together they add 1 to `state.step`.
    on_eval: (state, step, writer) -> scalars to write, or None; called every
      `eval_every` steps and at the end, unless a signal brings that.
    mesh: one data axis over all devices when None.
    job: what is trained.

  Raises:
    ValueError: missing or contradictory config keys, a batch the mesh does not
      divide, or a checkpoint that is of another config or cannot be read.
    FloatingPointError: a metric is not finite.
    OSError: a checkpoint could not be written.
  """
  config = checkpoint.plain(config)
  _check(config)
  mesh = mesh_lib.make_mesh() if mesh is None else mesh
  sharding.check_batch_size(config['batch_size'], mesh)
  rule = state_lib.placement(config['host_memory'])
  peak = throughput.peak_flops(mesh)
  timer = throughput.Timer(
      config['batch_size'], job.tokens,
      throughput.needed(job.programs()) if peak else None, peak,
  )
  options = config['checkpoint']
  saver = checkpoint.Checkpointer(
      os.path.join(workdir, start.CHECKPOINTS),
      config | {'sources': dict(job.sources)},
      save_every_minutes=config['save_every_minutes'], keep=options['keep'],
      best=options['best_mode'] if options['best_metric'] else '',
  )
  with jax.set_mesh(mesh):
    run = _Run(config, workdir, mesh, saver, batches, on_eval, timer)
    try:
      run.resume(init_fn, init_args, rule, job.part)
      if ended := run.ended():
        return ended
      _write_config(workdir, config)
      run.prepare(step_fn, frozen, pick)
      return run.run()
    finally:
      run.close()


def _check(config: Mapping[str, Any]) -> None:
  """Raises ValueError for what the loop cannot run."""
  missing = [key for key in KEYS if key not in config]
  if missing:
    raise ValueError(f'config lacks {missing}; a training needs {list(KEYS)}')
  if set(config['checkpoint']) != set(CHECKPOINT_KEYS):
    raise ValueError(
        f'config.checkpoint has {sorted(config["checkpoint"])}: expected'
        f' {list(CHECKPOINT_KEYS)}'
    )
  ranges.check(config)
  options = config['checkpoint']
  if options['best_metric'] and options['best_mode'] not in ('min', 'max'):
    raise ValueError(
        f'config.checkpoint.best_mode={options["best_mode"]!r}: expected'
        " 'min' or 'max'"
    )
  steps = config['profile_steps']
  if steps and (len(steps) != 2 or not 1 <= steps[0] <= steps[1]):
    raise ValueError(
        f'profile_steps={steps}: expected the first and the last step to'
        ' trace, from 1, or nothing'
    )


def _write_config(workdir: str, config: Mapping[str, Any]) -> None:
  """Notes the config beside the metrics, for people."""
  if jax.process_index():
    return
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'config.json')
  with open(path + '.tmp', 'w') as f:
    json.dump(config, f, indent=1)
  os.replace(path + '.tmp', path)


class _Run:
  """One process's part of a run, from resume to close."""

  def __init__(self, config, workdir, mesh, saver, batches, on_eval, timer):
    self._config, self._workdir, self._mesh = config, workdir, mesh
    self._saver, self._batches, self._on_eval = saver, batches, on_eval
    self._timer, self._writer, self._tracing = timer, None, False
    self._started = time.monotonic()

  # --- Where it starts. ---

  def resume(self, init_fn, init_args, rule, part: str) -> None:
    """Gets state, iterator and clock; the order is that of `start`."""
    args = init_args()

    def create():
      fresh = state_lib.create_sharded(init_fn, self._mesh, rule, args)
      where = self._config['init_from']
      return start.take_over(fresh, where, part) if where else fresh

    abstract = state_lib.abstract_sharded(init_fn, self._mesh, rule, args)
    found = self._saver.restore_or_init(abstract, create)
    self._batches.set_state(found.iterator)
    self._state, self._seconds_before = found.state, found.seconds
    self._step = int(jax.device_get(found.state.step))
    self._shardings = jax.tree.map(lambda x: x.sharding, abstract)

  def ended(self) -> Result | None:
    """What an earlier start ended with, None where there is more to do.

    The last checkpoint is written after the last evaluation.
    """
    minutes = self._config['max_minutes']
    if self._saver.latest_step() is None:
      return None
    if self._step >= self._config['steps']:
      return self._result('steps', self._bundle_is_due())
    if minutes and self._seconds_before >= 60 * minutes:
      return self._result('time', self._bundle_is_due())
    return None

  def _bundle_is_due(self) -> bool:
    """Whether there is no bundle of the newest checkpoint; equal on all
    processes, which write it together."""
    bundle = os.path.join(self._workdir, BUNDLE, 'config.json')
    saved = os.path.join(self._saver.directory, str(self._step))
    # One that is older is of before the run went on.
    due = not os.path.exists(bundle) or (
        os.path.getmtime(bundle) < os.path.getmtime(saved)
    )
    if jax.process_count() > 1:
      due = multihost_utils.broadcast_one_to_all(np.array(due))
    return bool(due)

  def prepare(self, step_fn, frozen, pick) -> None:
    """Opens what the steps write to and jits the step function(s)."""
    self._writer = metrics_lib.MetricWriter(
        self._workdir, self._step, self._config['steps']
    )
    self._saver.catch_sigterm()
    named = dict(step_fn) if isinstance(step_fn, Mapping) else {'': step_fn}
    if len(named) > 1 and pick is None:
      raise ValueError(f'several step functions {list(named)} need `pick`')
    self._compiled = set()
    self._frozen = () if frozen is None else (frozen,)
    self._pick = pick or (lambda step: tuple(named))
    self._key = jax.device_put(
        jax.random.key(self._config['seed']), sharding.replicated(self._mesh)
    )
    self._steps = {
        name: program_lib.jit_step(fn, self._shardings, self._mesh, stream)
        for stream, (name, fn) in enumerate(named.items())
    }

  # --- Steps. ---

  def run(self) -> Result:
    """Takes the steps."""
    log_every, eval_every = (
        self._config[key] for key in ('log_every', 'eval_every')
    )
    evaluated = -1
    self._timer.restart()
    while True:
      stopped, save = self._agree()
      if stopped in ('steps', 'time') and evaluated != self._step:
        self._evaluate()
      if stopped or (save and self._step):
        self._save()
      if stopped:
        break
      self._start_trace()
      scalars, batches = {}, []
      picked = self._pick(self._step)
      for name in (picked,) if isinstance(picked, str) else picked:
        scalars |= self._take(name)
        batches.append(dict(program=name, examples=self._batches.examples))
      self._step += 1
      self._writer.push(self._step, scalars, batches)
      self._stop_trace()
      if self._step % log_every == 0:
        self._writer.log(self._step, self._timer.report())
      if eval_every and self._step % eval_every == 0:
        self._evaluate()
        evaluated = self._step
    self._writer.flush()
    self._saver.wait()
    logging.info('Stopped at step %d: %s', self._step, stopped)
    return self._result(stopped)

  def _result(self, stopped: str, new: bool = True) -> Result:
    return Result(
        state=state_lib.average_on_device(self._state), step=self._step,
        stopped=stopped, new=new,
    )

  def _take(self, name: str) -> Mapping[str, jax.Array]:
    """Starts one step; returns its metrics, still being computed."""
    if name not in self._compiled:
      # While a program compiles, its constants may go to the device.
      with self._timer.compile():
        scalars = self._start(name)
        jax.block_until_ready(self._state)
      self._compiled.add(name)
      return scalars
    self._timer.step(name)
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

  # --- When to stop and to save. ---

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

  def _save(self, value: float | None = None) -> None:
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
          value,
      )

  # --- Evaluations and traces. ---

  def _evaluate(self) -> None:
    """Evaluates; where the best checkpoint is kept, saves with the result."""
    if self._on_eval is None:
      return
    with self._timer.pause():
      state = state_lib.average_on_device(self._state)
      values = self._on_eval(state, self._step, self._writer) or {}
    if values:
      self._writer.scalars(self._step, values)
    best = self._config['checkpoint']['best_metric']
    if not best:
      return
    if best not in values:
      raise ValueError(
          f'config.checkpoint.best_metric={best!r}: expected one of'
          f' {sorted(values)}'
      )
    metrics_lib.stop_if_not_finite({best: float(values[best])}, self._step)
    self._save(float(values[best]))

  def _start_trace(self) -> None:
    """Begins to trace before the first of `profile_steps`."""
    steps = self._config['profile_steps']
    if steps and self._step + 1 == steps[0]:
      jax.block_until_ready(self._state)
      jax.profiler.start_trace(os.path.join(self._workdir, 'profile'))
      self._tracing = True

  def _stop_trace(self, ended: bool = False) -> None:
    """Writes the trace after the last of `profile_steps`, or at the end."""
    if not self._tracing:
      return
    if ended or self._step >= self._config['profile_steps'][1]:
      self._tracing = False
      with self._timer.pause():
        jax.block_until_ready(self._state)
        jax.profiler.stop_trace()
      logging.info('Trace in %s', os.path.join(self._workdir, 'profile'))

  def close(self) -> None:
    """Closes what is open, also after an error."""
    self._stop_trace(ended=True)
    if self._writer is not None:
      self._writer.close()
    self._saver.close()
