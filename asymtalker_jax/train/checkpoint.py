"""Checkpoints; the only file that knows Orbax.

A checkpoint is one typed object: the state on the devices, the position of the
data iterator, the clock, and the config it was trained with. Orbax writes to a
temporary folder and renames it, so a save that was interrupted does not exist.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import glob
import json
from logging import WARNING
import os
import shutil
import signal
import threading
import time
from typing import Any

from absl import logging
import jax
from jax.experimental import multihost_utils
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from asymtalker_jax.train import difference

BEST = ('', 'min', 'max')
# Config keys (dotted prefixes) that may change between save and resume: they
# decide how long, how often and where, not what is computed. (A schedule that
# ends with `steps` has them in `optimizer.total_steps`, which may not.)
FREE_KEYS = (
    'checkpoint',
    'eval_every',
    'host_memory',
    'in_memory',
    'init_from',
    'log_every',
    'max_minutes',
    'mesh',
    'microbatches',
    'profile_steps',
    'remat',
    'save_every_minutes',
    'steps',
)
_LISTED = 5  # Arrays that an error names before it counts.
_PARTIAL = '*.orbax-checkpoint-tmp*'
_REMOVALS = 20
# In warnings of Orbax: saves between evaluations have no value, and the runs
# of `init_from` are only read, and of those only a part.
_ON_PURPOSE = (
    'tracked_metric', 'read_only', 'read only', 'CheckpointHandlerRegistry',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """What is saved and restored, whole.

  Attributes:
    state: pytree of device arrays; `state.step` is the number of the save.
    iterator: JSON values of `get_state()` of the data iterator.
    seconds: wall-clock time trained so far, over all resumes.
  """

  state: Any
  iterator: Mapping[str, Any]
  seconds: float = 0.0


class _Manager(ocp.CheckpointManager):
  """Leaves preemption to the training loop.

  Orbax would ask JAX for it, from a thread and with the step of a save that has
  ended, and JAX takes this for where the process is: the processes would then
  stop at different steps.
  """

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


class Checkpointer:
  """Saves asynchronously, restores, and notices preemption."""

  def __init__(
      self,
      directory: str,
      config: Mapping[str, Any],
      *,
      save_every_minutes: float = 5.0,
      keep: int = 2,
      best: str = '',
      free_keys: tuple[str, ...] = FREE_KEYS,
  ):
    """Opens a folder of checkpoints; makes it if need be.

    Args:
      directory: holds one folder per saved step.
      config: JSON-like values (or a ConfigDict) that define the training.
      save_every_minutes: `save_due()` is true so long after the last save.
      keep: the newest so many checkpoints are kept.
      best: 'min' or 'max': also the one whose `value` in `save` is the
        smallest or largest is kept; '' for no such.
      free_keys: dotted prefixes of `config` that may differ at resume.

    Raises:
      ValueError: save_every_minutes not positive, keep below 1, unknown best.
      OSError: the folder cannot be written.
    """
    if not save_every_minutes > 0 or keep < 1:
      raise ValueError(
          f'save_every_minutes={save_every_minutes}, keep={keep}: expected > 0'
          ' minutes and at least 1 checkpoint'
      )
    if best not in BEST:
      raise ValueError(f'best checkpoint {best!r}: expected one of {BEST}')
    _quieten_orbax()
    self.directory = os.path.abspath(directory)
    os.makedirs(self.directory, exist_ok=True)
    self._config = plain(config)
    self._save_every_s = 60.0 * save_every_minutes
    self._last_save = time.monotonic()
    self._free_keys = free_keys
    self._stop = threading.Event()
    self._failed = False
    self._previous_handler = None
    self._manager = _Manager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=_policy(keep, best),
            best_fn=_value if best else None,  # Makes Orbax store values.
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        ),
        item_handlers={
            'state': ocp.StandardCheckpointHandler(),
            'progress': ocp.JsonCheckpointHandler(),
        },
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest complete checkpoint, None if none."""
    return self._manager.latest_step()

  def restore_or_init(
      self, abstract: Any, create: Callable[[], Any]
  ) -> Checkpoint:
    """Returns the newest checkpoint, or a fresh one.

    The order of resuming:
    1. no complete checkpoint in the folder: `create()`, iterator at its start;
    2. otherwise the newest one, if its config is ours but for `free_keys` and
       its arrays have our shapes;
    3. its arrays go straight to the shardings of `abstract`, which may belong
       to another mesh than the one they were saved from;
    4. the caller hands `iterator` to `set_state` before the first batch;
    5. the clock goes on from `seconds`.

    Args:
      abstract: tree of ShapeDtypeStruct with shardings
        (`state.abstract_sharded`), or of arrays placed as wanted.
      create: () -> state, called in case 1 only.

    Raises:
      ValueError: the checkpoint was trained with another config, or cannot be
        read.
    """
    step = self.latest_step()
    if step is None:
      return Checkpoint(state=create(), iterator={})
    with self._reading(step):
      found = self._manager.restore(
          step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
      ).progress
      arrays = self._manager.item_metadata(step).state.tree
    self._check_same(found['config'], arrays, abstract, step)
    with self._reading(step):
      state = self._manager.restore(
          step,
          args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)),
      ).state
    logging.info('Resumed at step %d from %s', step, self.directory)
    return Checkpoint(
        state=state, iterator=found['iterator'], seconds=found['seconds']
    )

  def save_due(self) -> bool:
    """Returns whether the last save is `save_every_minutes` ago."""
    return time.monotonic() - self._last_save >= self._save_every_s

  def save(
      self, step: int, checkpoint: Checkpoint, value: float | None = None
  ) -> bool:
    """Starts to save; returns False where this step was saved already.

    The arrays are copied before this returns, so they may be donated; the
    files are written in the background, and the error of a background write
    is raised by the next `save`, `wait` or `close`. An older checkpoint goes
    when the new one is complete.

    Args:
      step: names the checkpoint.
      checkpoint: what is saved.
      value: how good it is, where the best one is kept.

    Raises:
      OSError: this one or the one before could not be written (a full disk).
    """
    self._last_save = time.monotonic()
    if self.latest_step() == step:
      return False
    progress = {
        'iterator': plain(checkpoint.iterator),
        'seconds': checkpoint.seconds,
        'config': self._config,
    }
    with self._writing():
      return self._manager.save(
          step,
          args=ocp.args.Composite(
              state=ocp.args.StandardSave(checkpoint.state),
              progress=ocp.args.JsonSave(progress),
          ),
          metrics=None if value is None else {'value': value},
          force=True,
      )

  def catch_sigterm(self) -> None:
    """From now on SIGTERM only sets what `preempted` returns.

    With several processes the coordination service of JAX does this part.
    """
    if jax.process_count() == 1 and (
        threading.current_thread() is threading.main_thread()
    ):
      self._previous_handler = signal.signal(
          signal.SIGTERM, lambda number, frame: self._stop.set()
      )

  def preempted(self, step: int) -> bool:
    """Returns whether this process is asked to save at `step` and stop.

    With several processes all of them get the same answer for the same step.
    """
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._stop.is_set()

  def wait(self) -> None:
    """Returns when everything is on disk.

    Raises:
      OSError: a checkpoint could not be written.
    """
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Finishes writing and gives SIGTERM back.

    Raises:
      OSError: a checkpoint could not be written.
    """
    try:
      self._manager.close()
    except Exception as error:
      if not self._failed:  # What follows from a failure is no news.
        raise self._failure(error) from error
    finally:
      if self._failed and not jax.process_index():
        self._remove_partial()
      if self._previous_handler is not None:
        signal.signal(signal.SIGTERM, self._previous_handler)
        self._previous_handler = None

  def _remove_partial(self) -> None:
    """Removes what a failed save left. Orbax reports the first array that could
    not be written; the threads of the others go on for a moment, and make the
    folder again if it is gone."""
    for _ in range(_REMOVALS):
      for path in glob.glob(os.path.join(self.directory, _PARTIAL)):
        shutil.rmtree(path, ignore_errors=True)
      time.sleep(0.05)

  def _check_same(self, config, arrays, abstract, step: int) -> None:
    """Raises unless a checkpoint has our config and the shapes of our state."""
    differences = difference.values(config, self._config, self._free_keys)
    shapes = difference.arrays(arrays, abstract)
    if not differences and not shapes:
      return
    if len(shapes) > _LISTED:
      shapes[_LISTED:] = [f'and {len(shapes) - _LISTED} more']
    parts = [
        f'{what}: {"; ".join(lines)}'
        for what, lines in (('config', differences), ('arrays', shapes))
        if lines
    ]
    raise ValueError(
        f'checkpoint {self.directory}/{step} is of another training; '
        + '; '.join(parts)
        + '; use another folder or the config of the checkpoint'
    )

  @contextlib.contextmanager
  def _reading(self, step: int):
    """Context: what goes wrong becomes one line that says what to do."""
    try:
      yield
    except Exception as error:  # Those of the storage have no common type.
      older = [s for s in self._manager.all_steps() if s < step]
      instead = f'from step {max(older)}' if older else 'from the beginning'
      raise ValueError(
          f'checkpoint {self.directory}/{step} cannot be read'
          f' ({_first_line(error)}); restore its missing or damaged files, or'
          f' delete the folder to go on {instead}'
      ) from error

  @contextlib.contextmanager
  def _writing(self):
    """Context: what goes wrong becomes one line."""
    try:
      yield
    except Exception as error:  # Those of the storage have no common type.
      raise self._failure(error) from error

  def _failure(self, error: BaseException) -> OSError:
    """The line; `close` removes what was half-written."""
    self._failed = True
    names = filter(str.isdigit, os.listdir(self.directory))
    newest = max(map(int, names), default=None)
    return OSError(
        f'a checkpoint in {self.directory} could not be written'
        f' ({_first_line(error)}); the newest complete one is of step {newest}'
    )


def restore_part(directory: str, part: Any, step: int | None = None) -> Any:
  """Returns a part of a saved state, for a run that starts from another.

  Args:
    directory: the checkpoint folder of the other run.
    part: nested dict from the state's field names down, with abstract arrays
      as leaves: `{'ema': abstract_params}`; other fields are not read.
    step: which checkpoint; the newest when None.

  Raises:
    FileNotFoundError: no complete checkpoint there.
    ValueError: the part has other names or shapes than the checkpoint.
  """
  with _open(directory) as manager:
    step = _newest(manager, directory) if step is None else step
    if step not in manager.all_steps():
      raise FileNotFoundError(
          f'{directory}: no complete checkpoint of step {step}, found steps'
          f' {sorted(manager.all_steps())}'
      )
    restore = ocp.args.PyTreeRestore(
        item=part,
        restore_args=ocp.checkpoint_utils.construct_restore_args(part),
        partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(state=restore)).state


def _open(directory: str) -> ocp.CheckpointManager:
  """Opens the checkpoints of another run, to read."""
  if not os.path.isdir(directory):
    raise FileNotFoundError(f'{directory}: no such checkpoint folder')
  _quieten_orbax()
  return ocp.CheckpointManager(
      os.path.abspath(directory),
      options=ocp.CheckpointManagerOptions(read_only=True),
      item_handlers={'state': ocp.PyTreeCheckpointHandler()},
  )


def _newest(manager: ocp.CheckpointManager, directory: str) -> int:
  step = manager.latest_step()
  if step is None:
    raise FileNotFoundError(f'{directory}: no complete checkpoint')
  return step


def fields(directory: str) -> list[str]:
  """Returns the names of the state's fields in the newest checkpoint.

  Raises:
    FileNotFoundError: no complete checkpoint there.
  """
  with _open(directory) as manager:
    step = _newest(manager, directory)
    return sorted(manager.item_metadata(step).state.tree)


def _policy(keep: int, best: str):
  """Returns which checkpoints stay: the newest, and the best one."""
  newest = checkpoint_managers.LatestN(keep)
  if not best:
    return newest
  return checkpoint_managers.AnyPreservationPolicy([
      newest,
      checkpoint_managers.BestN(
          get_metric_fn=_value, reverse=best == 'min', n=1,
          keep_checkpoints_without_metrics=False,
      ),
  ])


def _value(metrics: Mapping[str, float]) -> float:
  return metrics['value']


def _first_line(error: BaseException) -> str:
  """What an error says, short enough for a terminal."""
  text = ' '.join(str(error).split()) or type(error).__name__
  return text if len(text) <= 300 else text[:300] + '...'


def _quieten_orbax() -> None:
  """Hides Orbax's forty INFO lines per save; ours and warnings stay."""
  logger = logging.get_absl_logger()
  if _not_orbax_chatter not in logger.filters:
    logger.addFilter(_not_orbax_chatter)


def _not_orbax_chatter(record: Any) -> bool:
  """False for what is said elsewhere: Orbax raises the errors it logs too."""
  if 'orbax' not in record.pathname:
    return True
  said = record.getMessage()
  return record.levelno == WARNING and not any(w in said for w in _ON_PURPOSE)


def plain(values: Any) -> Any:
  """Returns JSON values: dicts, lists, numbers, strings.

  Raises:
    ValueError: something in `values` is not JSON.
  """
  if hasattr(values, 'to_dict'):
    values = values.to_dict()
  try:
    return json.loads(json.dumps(values))
  except TypeError as error:
    raise ValueError(f'config is not plain JSON values: {error}') from error
