"""Long videos of one evaluation: the part `long` of its metrics.json."""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

from absl import logging
from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import generation
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import long_tasks
from asymtalker_jax.evals import options as options_lib
from asymtalker_jax.evals import page
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import report
from asymtalker_jax.evals import systems as systems_lib
from asymtalker_jax.inputs import video

LEAST_CLIPS = 8  # at least so many, where there are, lend their speech
Speaker = systems_lib.Kept | systems_lib.Folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tasks:
  """What is to be made.

  Attributes:
    tasks: one per long video.
    cases: that lend their faces and speech.
    unread: those of them that cannot be read, as failures.
  """

  tasks: Sequence[cases_lib.Case]
  cases: cases_lib.Cases
  unread: Sequence[dict]


def tasks_of(options: options_lib.Options, cases: cases_lib.Cases) -> Tasks:
  """Reads the clips once, for the long videos that are asked for.

  Raises:
    ValueError: no clip can be read, or they are of too few people.
  """
  most = max(options.clips, options.long_videos, LEAST_CLIPS)
  lent = cases.first(min(most, len(cases)))
  speakers, unread = _speakers(lent)
  return Tasks(
      tasks=long_tasks.tasks(speakers, options.seconds, options.long_videos),
      cases=lent,
      unread=unread,
  )


class Talks:
  """The long videos that are asked for.

  Attributes:
    tasks: one per video.
  """

  def __init__(
      self,
      options: options_lib.Options,
      cases: cases_lib.Cases,
      watcher: long_run.Watcher,
  ):
    """Reads the clips once; nothing is written.

    Raises:
      ValueError: no clip can be read, or they are of too few people.
    """
    self._options, self._watcher = options, watcher
    self._out = pathlib.Path(options.out)
    asked = tasks_of(options, cases)
    self.tasks = asked.tasks
    self._cases, self._unread = asked.cases, asked.unread

  def score(
      self, speaker: Speaker, role: str, metrics: dict[str, Any]
  ) -> str:
    """Watches every video; writes plot, frames and page.

    Args:
      speaker: who makes or made them.
      role: its name.
      metrics: of the evaluation; gets 'long', and into 'failures' clips that
        could not be read and videos that could not be watched.

    Returns:
      A table, '' where no video could be watched.
    """
    self._learn()
    failures = metrics['failures']
    listed = {failure['video'] for failure in failures}
    failures += [row for row in self._unread if row['video'] not in listed]
    runs = {}
    for task in self.tasks:
      name = f'{role}, {self._options.seconds:g} s, person {task.clip.identity}'
      try:
        runs[name] = self._watch(speaker, task)
      except (ValueError, OSError) as error:
        why = protocol.reason(error)
        failures.append({'system': role, 'video': task.name, 'reason': why})
        logging.error('%s, %s: %s', role, task.name, why)
    if not runs:
      return ''
    results = [run.result for run in runs.values()]
    figures = long_run.mean_figures(results)
    metrics['long'] = {'role': role, 'figures': figures, 'videos': results}
    self._draw(runs)
    many = f', mean of {len(runs)} videos' if len(runs) > 1 else ''
    column = {f'{role}, {self._options.seconds:g} s{many}': figures}
    lines = [f'- {line}' for line in long_run.notes(results)]
    table = report.table(column, report.LONG_ROWS)
    return '\n'.join([table, *lines, ''])

  def _learn(self) -> None:
    """Shows ground truth to the watcher, clip by clip."""
    unread = {failure['video'] for failure in self._unread}
    for index, name in enumerate(self._cases.names):
      if name in unread:
        continue
      try:
        self._watcher.learn(self._cases[index])
      except (ValueError, OSError) as error:  # Or too short for FVD.
        logging.warning('%s: not learnt: %s', name, protocol.reason(error))

  def _watch(self, speaker: Speaker, task: cases_lib.Case) -> page.Run:
    """One video, as it is shown on the page."""
    options = self._options
    count = long_tasks.frames(task)
    frames = systems_lib.aligned(speaker(task), count, task.image.shape[:2])
    size = int(round(options.window_s * video.FPS))
    seen = self._watcher.watch(frames, task, size)
    result = long_run.summarise(seen, options.window_s)
    made = speaker.speed_of(task.name)
    if made:
      result['figures'] |= {
          'memory_growth': generation.memory_growth(
              made['memory_mb'], options.seconds
          ),
          'frames_per_s': made['frames_per_s'],
      }
    result['person'] = int(task.clip.identity)
    # Resolved: '..' behind a link is another folder than the text says.
    path = speaker.path_of(task.name).resolve()
    result['video'] = os.path.relpath(path, self._out.resolve())
    return page.Run(
        folder=self._out, result=result, thumbnails=seen.thumbnails
    )

  def _draw(self, runs: dict[str, page.Run]) -> None:
    """Plot, contact sheet and page."""
    curves = {name: run.result['curves'] for name, run in runs.items()}
    report.plot_lines(
        self._out / 'drift.png', report.long_panels(curves), 3
    )
    report.contact_sheet(
        self._out / 'drift_frames.png',
        [run.thumbnails for run in runs.values()],
        20,
    )
    page.write(self._out / 'drift.html', runs)


def _speakers(
    cases: cases_lib.Cases,
) -> tuple[list[cases_lib.Case], list[dict]]:
  """Cases that can be read, with one frame each; the others with the reason.

  Raises:
    ValueError: none can.
  """
  found, failures = [], []
  for index, name in enumerate(cases.names):
    try:
      case = cases[index]
    except (ValueError, OSError) as error:
      why = protocol.reason(error)
      failures.append({'system': protocol.TRUTH, 'video': name, 'reason': why})
      logging.error('%s: %s', name, why)
      continue
    clip = types.Clip(
        frames=case.clip.frames[:1].copy(),
        waveform=case.clip.waveform,
        identity=case.clip.identity,
        tracks=case.clip.tracks,
    )
    found.append(
        cases_lib.Case(name=case.name, image=case.image.copy(), clip=clip)
    )
  if not found:
    raise ValueError(f'none of {len(cases)} clips can be read')
  return found, failures
