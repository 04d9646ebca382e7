"""Long videos to be made: one portrait each, speech of several clips in a row.

A task's name changes with its portrait and its speech, so that a kept video of
another task is not taken for this one.
"""

from collections.abc import Sequence
import hashlib

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.inputs import source
from asymtalker_jax.inputs import video

PREFIX = 'long_'  # of names
# So many frames has lip-sync, the longest of what a figure needs.
LEAST_S = 4 * lip_sync.MAX_LAG / video.FPS


def looped_speech(
    clips: Sequence[types.Clip], seconds: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """(waveform [640 N], tracks) of clips in a row, repeated as needed.

  Of the tracks there is 'mouth' [N], where every clip has one.

  Raises:
    ValueError: less than LEAST_S asked for.
  """
  if seconds < LEAST_S:
    raise ValueError(f'seconds {seconds:g}: expected at least {LEAST_S:g}')
  count = int(round(seconds * video.FPS))
  row, samples = [], 0
  while samples < count * source.SAMPLES_PER_FRAME:
    row.append(clips[len(row) % len(clips)])
    samples += len(row[-1].waveform)
  waveform = np.concatenate([clip.waveform for clip in row])
  tracks = {}
  if all('mouth' in clip.tracks for clip in clips):
    mouth = np.concatenate([clip.tracks['mouth'] for clip in row])
    tracks['mouth'] = mouth[:count]
  return waveform[: count * source.SAMPLES_PER_FRAME], tracks


def task(cases: Sequence[cases_lib.Case], seconds: float) -> cases_lib.Case:
  """The first case's face, everybody's speech.

  Its ground truth has no frames but one.

  Raises:
    ValueError: less than LEAST_S.
  """
  waveform, tracks = looped_speech([case.clip for case in cases], seconds)
  first = cases[0]
  content = hashlib.blake2b(digest_size=4)
  for part in (first.image, waveform, *tracks.values()):
    content.update(np.ascontiguousarray(part))
  clip = types.Clip(
      frames=first.clip.frames[:1],
      waveform=waveform,
      identity=first.clip.identity,
      tracks=tracks,
  )
  return cases_lib.Case(
      name=f'{PREFIX}{seconds:g}s_{content.hexdigest()}',
      image=first.image,
      clip=clip,
  )


def tasks(
    cases: Sequence[cases_lib.Case], seconds: float, people: int
) -> list[cases_lib.Case]:
  """`task` for each of the first people; their speech begins with their own.

  Raises:
    ValueError: as `task`, or cases of fewer people.
  """
  first = {}
  for index, case in enumerate(cases):
    first.setdefault(int(case.clip.identity), index)
  if people > len(first):
    raise ValueError(
        f'--long_videos={people}: {len(cases)} clips are of {len(first)}'
        ' different people; expected at most as many'
    )
  starts = list(first.values())[:people]
  return [task([*cases[i:], *cases[:i]], seconds) for i in starts]


def frames(case: cases_lib.Case) -> int:
  """N, that a video of a task has."""
  return len(case.clip.waveform) // source.SAMPLES_PER_FRAME
