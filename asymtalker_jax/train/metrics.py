"""Metrics: JSON lines and TensorBoard, written by a thread of their own.

The loop hands over device arrays and goes on; the thread waits for them, stops
the run at the first value that is not finite, averages and writes. It is never
more than `BEHIND` steps behind, which also bounds how far the loop runs ahead
of the device.
"""

from collections.abc import Mapping, Sequence
import json
import math
import os
import queue
import sys
import threading
from typing import Any

import jax
import numpy as np
from PIL import Image
import tensorboardX
import tqdm

from asymtalker_jax.inputs import contact_sheet

FILE = 'metrics.jsonl'
BEHIND = 2  # Steps in flight: one running, one queued.


class MetricWriter:
  """Writes what happens in a run to its folder; a no-op off host 0."""

  def __init__(self, workdir: str, start_step: int = 0, steps: int = 0):
    """Opens the files; lines after `start_step` of an earlier run go away.

    Args:
      workdir: folder of the run, made if need be.
      start_step: steps taken so far.
      steps: steps of the whole run, for the progress bar; 0 hides it.
    """
    self._workdir = workdir
    self._active = jax.process_index() == 0
    self._sums: dict[str, list[float]] = {}
    self._batches: list[dict[str, Any]] = []  # Of the last two steps.
    self._error: BaseException | None = None
    self._queue: queue.Queue = queue.Queue(maxsize=BEHIND)
    self._file = self._board = self._bar = None
    if self._active:
      path = os.path.join(workdir, FILE)
      os.makedirs(workdir, exist_ok=True)
      _cut(path, start_step)
      self._file = open(path, 'a')
      self._board = tensorboardX.SummaryWriter(
          os.path.join(workdir, 'tensorboard'), purge_step=start_step + 1
      )
    if self._active and steps:
      self._bar = tqdm.tqdm(
          total=steps, initial=start_step, unit='step', dynamic_ncols=True,
          mininterval=1.0 if sys.stderr.isatty() else 60.0,
      )
    self._thread = threading.Thread(target=self._work, daemon=True)
    self._thread.start()

  def push(
      self,
      step: int,
      metrics: Mapping[str, Any],
      batches: Sequence[Mapping[str, Any]] = (),
  ) -> None:
    """Takes the scalars of one step, on the device; waits if far ahead.

    Args:
      step: its number, from 1.
      metrics: name -> [] array.
      batches: for each program of the step its name and which examples it got,
        for the file that is written when the run has to stop.

    Raises:
      FloatingPointError: an earlier step had a value that is not finite.
    """
    self._put(('step', step, (dict(metrics), batches)))

  def log(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the means of what was pushed since the last call, and `values`."""
    self._put(('log', step, dict(values)))

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one line of host values by itself, as evaluations do."""
    self._put(('scalars', step, dict(values)))

  def image(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes [H, W, 3] uint8, or float in [-1, 1], to TensorBoard and PNG."""
    self._put(('image', step, (name, to_uint8(image))))

  def video(
      self, step: int, name: str, video: np.ndarray, columns: int = 8
  ) -> None:
    """Writes up to 4 rows of [F, H, W, 3] frames, evenly in time, as `image`
    does."""
    frames = contact_sheet.spread(to_uint8(video), 4 * columns)
    rows = contact_sheet.wrap(frames, columns)
    self.image(step, name, contact_sheet.picture(rows))

  def flush(self) -> None:
    """Returns when all is written; raises what went wrong."""
    self._queue.join()
    self._raise()
    if self._file:
      self._file.flush()

  def close(self) -> None:
    """Writes what is left and closes the files; does not raise."""
    self._queue.put(None)
    self._thread.join()
    if self._bar is not None:
      self._bar.close()
    if self._file:
      self._file.close()
      self._board.close()

  def _put(self, item: tuple[str, int, Any]) -> None:
    self._raise()
    self._queue.put(item)

  def _raise(self) -> None:
    if self._error is not None:
      raise self._error

  def _work(self) -> None:
    """Thread: handles items in order; after an error only drains."""
    while (item := self._queue.get()) is not None:
      try:
        if self._error is None:
          getattr(self, f'_on_{item[0]}')(item[1], item[2])
      except BaseException as error:  # Raised by the loop, at its next call.
        self._error = error
      finally:
        self._queue.task_done()

  def _on_step(self, step: int, pushed: tuple[Mapping, Sequence]) -> None:
    metrics, batches = pushed
    values = {k: float(v) for k, v in jax.device_get(metrics).items()}
    # Values are those before the update: what broke them may be the batch of
    # this step, or the update of the one before.
    kept = [b for b in self._batches if b['step'] == step - 1]
    self._batches = kept + [dict(step=step, **b) for b in batches]
    if not all(map(math.isfinite, values.values())):
      path = dump_batches(self._workdir, step, values, self._batches)
      stop_if_not_finite(values, step, max(1, step - 1), path)
    for key, value in values.items():
      self._sums.setdefault(key, []).append(value)
    if self._bar is not None:
      self._bar.update(1)

  def _on_log(self, step: int, values: Mapping[str, float]) -> None:
    means = {k: math.fsum(v) / len(v) for k, v in self._sums.items()}
    self._sums = {}
    if self._bar is not None and 'loss' in means:
      self._bar.set_postfix(loss=f'{means["loss"]:.4g}', refresh=False)
    self._on_scalars(step, means | dict(values))

  def _on_scalars(self, step: int, values: Mapping[str, float]) -> None:
    if not self._active:
      return
    values = {k: float(v) for k, v in values.items()}
    self._file.write(json.dumps({'step': step} | values) + '\n')
    self._file.flush()
    for key, value in values.items():
      self._board.add_scalar(key, value, step)

  def _on_image(self, step: int, named: tuple[str, np.ndarray]) -> None:
    if not self._active:
      return
    name, image = named
    self._board.add_image(name, image, step, dataformats='HWC')
    folder = os.path.join(self._workdir, 'samples')
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f'{name.replace("/", "_")}_{step:07d}.png')
    Image.fromarray(image).save(path + '.tmp', format='PNG')
    os.replace(path + '.tmp', path)


def dump_batches(
    workdir: str,
    step: int,
    values: Mapping[str, float],
    batches: Sequence[Mapping[str, Any]],
) -> str:
  """Writes down what the steps got that ended a run; returns the path.

  One file per process, each with its own rows of the batches.

  Args:
    workdir: folder of the run.
    step: whose values are not finite.
    values: of that step.
    batches: step, program and examples: numbers in the training split, in the
      order of the rows.
  """
  name = f'not_finite_process{jax.process_index()}.json'
  path = os.path.join(workdir, name)
  listed = [dict(b, examples=np.asarray(b['examples']).tolist())
            for b in batches]  # pyformat: disable
  found = {
      'step': step,
      'values': {k: repr(v) for k, v in values.items()},  # JSON has no NaN.
      'batches': listed,
  }
  with open(path + '.tmp', 'w') as f:
    json.dump(found, f, indent=1)
  os.replace(path + '.tmp', path)
  return path


def stop_if_not_finite(
    metrics: Mapping[str, float],
    step: int,
    first_step: int | None = None,
    dump: str = '',
) -> None:
  """Raises unless all values are finite.

  Args:
    metrics: name -> host value.
    step: the (last) step they are of.
    first_step: the first step that may have caused them.
    dump: file with the examples of these steps, for the message.

  Raises:
    FloatingPointError: names the metrics and the steps.
  """
  bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
  if bad:
    first = step if first_step is None else first_step
    steps = f'step {step}' if first == step else f'steps {first}..{step}'
    listed = ', '.join(f'{k}={v}' for k, v in sorted(bad.items()))
    examples = f'; the examples of these steps are in {dump}' if dump else ''
    raise FloatingPointError(
        f'{steps}: {listed}; training stopped, the last checkpoint is from'
        f' before (try a lower learning rate or a smaller clip_norm){examples}'
    )


def read(workdir: str) -> list[dict[str, float]]:
  """Returns the lines of a run; a last line cut by a kill is left out.

  Raises:
    FileNotFoundError: no metrics there.
  """
  path = os.path.join(workdir, FILE)
  with open(path) as f:
    text = f.read()
  complete = text[: text.rfind('\n') + 1].splitlines()
  return [json.loads(line) for line in complete]


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Returns uint8 for float in [-1, 1]; uint8 as it is."""
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  return np.clip((image + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8)


def _cut(path: str, last_step: int) -> None:
  """Removes the lines of steps that the resumed run takes again."""
  if not os.path.exists(path):
    return
  lines = read(os.path.dirname(path))
  with open(path + '.tmp', 'w') as f:
    for line in lines:
      if line['step'] <= last_step:
        f.write(json.dumps(line) + '\n')
  os.replace(path + '.tmp', path)
