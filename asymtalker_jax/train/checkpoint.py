"""Checkpoints; the only file that knows Orbax.

A checkpoint is one typed object: the state on the devices, the position of the
data iterator, the clock, and the config it was trained with. Orbax writes to a
temporary folder and renames it, so a save that was interrupted does not exist.
"""

import dataclasses
import json
from logging import INFO
import os
import signal
import threading
import time
from typing import Any, Mapping

from absl import logging
import jax
from jax.experimental import multihost_utils
import orbax.checkpoint as ocp

# Config keys (dotted prefixes) that may change between save and resume: they
# decide how long, how often and where, not what is computed.
FREE_KEYS = (
    'checkpoint',
    'data.path',
    'data.threads',
    'data.in_memory',
    'eval_every',
    'log_every',
    'max_minutes',
    'mesh',
    'profile_steps',
    'save_every_minutes',
    'steps',
    'workdir',
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


class Checkpointer:
  """Saves asynchronously, restores, and notices preemption."""

  def __init__(
      self,
      directory: str,
      config: Mapping[str, Any],
      *,
      save_every_minutes: float = 5.0,
      keep: int = 2,
      free_keys: tuple[str, ...] = FREE_KEYS,
  ):
    """Opens a folder of checkpoints; makes it if need be.

    Args:
      directory: holds one folder per saved step.
      config: JSON-like values (or a ConfigDict) that define the training.
      save_every_minutes: `save_due()` is true so long after the last save.
      keep: the newest so many checkpoints are kept.
      free_keys: dotted prefixes of `config` that may differ at resume.

    Raises:
      ValueError: save_every_minutes not positive, or keep below 1.
      OSError: the folder cannot be written.
    """
    if not save_every_minutes > 0 or keep < 1:
      raise ValueError(
          f'save_every_minutes={save_every_minutes}, keep={keep}: expected > 0'
          ' minutes and at least 1 checkpoint'
      )
    _quieten_orbax()
    self.directory = os.path.abspath(directory)
    os.makedirs(self.directory, exist_ok=True)
    self._config = plain(config)
    self._save_every_s = 60.0 * save_every_minutes
    self._last_save = time.monotonic()
    self._free_keys = free_keys
    self._stop = threading.Event()
    self._previous_handler = None
    self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        ),
        item_names=('state', 'progress'),
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest complete checkpoint, None if none."""
    return self._manager.latest_step()

  def restore_or_init(self, abstract: Any, create: Any) -> Checkpoint:
    """Returns the newest checkpoint, or a fresh one.

    The order of resuming:
    1. no complete checkpoint in the folder: `create()`, iterator at its start;
    2. otherwise the newest one, if its config is ours but for `free_keys`;
    3. its arrays go straight to the shardings of `abstract`, which may belong
       to another mesh than the one they were saved from;
    4. the caller hands `iterator` to `set_state` before the first batch;
    5. the clock goes on from `seconds`.

    Args:
      abstract: tree of ShapeDtypeStruct with shardings
        (`state.abstract_sharded`), or of arrays placed as wanted.
      create: () -> state, called in case 1 only.

    Raises:
      ValueError: the checkpoint was trained with another config.
    """
    step = self.latest_step()
    if step is None:
      return Checkpoint(state=create(), iterator={})
    found = self._manager.restore(
        step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
    ).progress
    self._check_config(found['config'], step)
    state = self._manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    ).state
    logging.info('Resumed at step %d from %s', step, self.directory)
    return Checkpoint(
        state=state, iterator=found['iterator'], seconds=found['seconds']
    )

  def save_due(self) -> bool:
    """Returns whether the last save is `save_every_minutes` ago."""
    return time.monotonic() - self._last_save >= self._save_every_s

  def save(self, step: int, checkpoint: Checkpoint) -> bool:
    """Starts to save; returns False where this step was saved already.

    The arrays are copied before this returns, so they may be donated; the
    files are written in the background, and the error of a background write
    (a full disk) is raised by the next `save`, `wait` or `close`.
    """
    self._last_save = time.monotonic()
    if self.latest_step() == step:
      return False
    progress = {
        'iterator': plain(checkpoint.iterator),
        'seconds': checkpoint.seconds,
        'config': self._config,
    }
    return self._manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(checkpoint.state),
            progress=ocp.args.JsonSave(progress),
        ),
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
    """Returns when everything is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Finishes writing and gives SIGTERM back."""
    self._manager.close()
    if self._previous_handler is not None:
      signal.signal(signal.SIGTERM, self._previous_handler)
      self._previous_handler = None

  def _check_config(self, found: Mapping[str, Any], step: int) -> None:
    differences = diff(found, self._config, self._free_keys)
    if differences:
      raise ValueError(
          f'checkpoint {self.directory}/{step} was trained with another'
          f' config: {"; ".join(differences)}; use another folder or the'
          ' config of the checkpoint'
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
  if not os.path.isdir(directory):
    raise FileNotFoundError(f'{directory}: no such checkpoint folder')
  options = ocp.CheckpointManagerOptions(read_only=True)
  with ocp.CheckpointManager(
      os.path.abspath(directory),
      options=options,
      item_handlers={'state': ocp.PyTreeCheckpointHandler()},
  ) as manager:
    step = manager.latest_step() if step is None else step
    if step is None or step not in manager.all_steps():
      raise FileNotFoundError(
          f'{directory}: no complete checkpoint'
          + ('' if step is None else f' of step {step}')
          + f', found steps {sorted(manager.all_steps())}'
      )
    restore = ocp.args.PyTreeRestore(
        item=part,
        restore_args=ocp.checkpoint_utils.construct_restore_args(part),
        partial_restore=True,
    )
    return manager.restore(step, args=ocp.args.Composite(state=restore)).state


def _quieten_orbax() -> None:
  """Hides Orbax's forty INFO lines per save; ours and warnings stay."""
  logger = logging.get_absl_logger()
  if _not_orbax_chatter not in logger.filters:
    logger.addFilter(_not_orbax_chatter)


def _not_orbax_chatter(record: Any) -> bool:
  return record.levelno > INFO or 'orbax' not in record.pathname


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


def diff(
    old: Mapping[str, Any], new: Mapping[str, Any], free: tuple[str, ...] = ()
) -> list[str]:
  """Returns one 'key: old -> new' per differing value outside `free`."""
  old, new = _flatten(old), _flatten(new)
  lines = []
  for key in sorted(set(old) | set(new)):
    if any(key == f or key.startswith(f + '.') for f in free):
      continue
    before, after = old.get(key, 'absent'), new.get(key, 'absent')
    if before != after:
      lines.append(f'{key}: {before!r} in the checkpoint, {after!r} now')
  return lines


def _flatten(values: Any, prefix: str = '') -> dict[str, Any]:
  if not isinstance(values, Mapping):
    return {prefix: values}
  flat = {}
  for key, value in values.items():
    flat |= _flatten(value, f'{prefix}.{key}' if prefix else str(key))
  return flat
