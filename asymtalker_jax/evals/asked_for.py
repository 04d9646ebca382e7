"""What other programs are asked to make: portraits and speech as files."""

from collections.abc import Iterable, Iterator, Sequence
import io
import itertools
import os
import pathlib

from absl import logging
import soundfile

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import long_tasks
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import report
from asymtalker_jax.evals import systems as systems_lib
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import contact_sheet

TASKS = 'tasks'  # below --out


def check(
    folder: systems_lib.Folder,
    clips: cases_lib.Cases,
    tasks: Sequence[cases_lib.Case],
    out: str | os.PathLike,
) -> None:
  """Whether a program has made every long video, and of clips at least one: a
  single one that is missing is a failure among the others.

  Args:
    folder: its videos.
    clips: of the evaluation, read only where they are asked for.
    tasks: long ones, of `long_tasks`.
    out: folder of the evaluation.

  Raises:
    FileNotFoundError: it has not; what it is to make is then in OUT/tasks.
  """
  short = folder.missing(clips.names)
  if len(short) < len(clips):
    short = set()
  long = folder.missing([task.name for task in tasks])
  if not short and not long:
    return
  where = pathlib.Path(out) / TASKS
  write(where, itertools.chain(
      _readable(clips) if short else (), tasks if long else ()
  ))  # pyformat: disable
  count = len(clips) * bool(short) + len(tasks) * bool(long)
  missing = sorted(short | long)
  raise FileNotFoundError(
      f'{folder.path}: no video {missing[0]}.mp4, one of {len(missing)} of'
      f' {count} that are missing; their portraits and speech are in {where}'
  )


def _readable(cases: Sequence[cases_lib.Case]) -> Iterator[cases_lib.Case]:
  """Cases one by one, without those that cannot be read."""
  for index in range(len(cases)):
    try:
      yield cases[index]
    except (ValueError, OSError) as error:
      logging.error('%s: %s', cases.names[index], protocol.reason(error))


def write(folder: pathlib.Path, cases: Iterable[cases_lib.Case]) -> None:
  """Writes NAME.png, the portrait, and NAME.wav of each, and removes long ones
  that were written before."""
  names = set()
  for case in cases:
    names.add(case.name)
    picture = contact_sheet.png(case.image)
    report.write_bytes(folder / f'{case.name}.png', picture)
    sound = io.BytesIO()
    soundfile.write(
        sound, case.clip.waveform, audio.SAMPLE_RATE_HZ, format='WAV'
    )
    report.write_bytes(folder / f'{case.name}.wav', sound.getvalue())
  for old in folder.glob(f'{long_tasks.PREFIX}*'):
    if old.stem not in names:
      old.unlink()
