"""Clips of a video, in two passes over the file.

The first pass looks: differences between frames, loudness, faces in some of
the frames. `plan_clips` decides from that; the second pass cuts. Neither keeps
more than one clip of frames, however long the video is. Both read frames and
sound in step, each from the start of the container, 640 samples per frame.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import os

import numpy as np

from asymtalker_jax.generate import portrait
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import source
from asymtalker_jax.inputs import video
from data.videos import crop
from data.videos import scenes

LOOK_EVERY_FRAMES = 5  # five faces per second are looked for

FindFaces = Callable[[np.ndarray], list[tuple[bool, crop.Square]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
  """What the first pass saw of N frames.

  Attributes:
    picture: height and width in pixels.
    differences: [N] of each frame to the one before, see `scenes`.
    power: [N] mean square of the sound of each frame.
    faces: of frames 0, LOOK_EVERY_FRAMES, ...: squares, largest first.
  """

  picture: tuple[int, int]
  differences: np.ndarray
  power: np.ndarray
  faces: Sequence[Sequence[crop.Square]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """One clip to cut.

  Attributes:
    start: its first frame in the video at 25 fps.
    box: top, left, height, width of the crop in pixels.
  """

  start: int
  box: crop.Box


def stream_sounds(path: str | os.PathLike) -> Iterator[np.ndarray]:
  """Yields [640] float32 per video frame; raises as `audio.stream_waveform`."""
  step, rest = source.SAMPLES_PER_FRAME, np.zeros(0, np.float32)
  for block in audio.stream_waveform(path):
    rest = np.concatenate([rest, block])
    whole = len(rest) // step * step
    yield from rest[:whole].reshape(-1, step)
    rest = rest[whole:]
  if 2 * len(rest) >= step:
    yield np.pad(rest, (0, step - len(rest)))


def survey(path: str | os.PathLike,
           find_faces: FindFaces = portrait.find_faces) -> Survey:
  """Looks at a whole video; what only one of frames and sound has is left out.

  Args:
    path: a video with sound.
    find_faces: of `portrait.find_faces`; only faces that it is sure of count.

  Raises:
    ValueError: as `video.stream_frames` and `audio.stream_waveform`, or frames
      of several sizes.
  """
  differences, power, faces, before, picture = [], [], [], None, None
  pairs = itertools.zip_longest(video.stream_frames(path), stream_sounds(path))
  # To the end of both, because that is where truncation shows.
  for index, (rgb, sound) in enumerate(pairs):
    if rgb is None or sound is None:
      continue
    picture = picture or rgb.shape[:2]
    if rgb.shape[:2] != picture:
      raise ValueError(
          f'{os.fspath(path)}: {rgb.shape[1]}x{rgb.shape[0]} pixels after '
          f'{index / video.FPS:.2f} s; expected {picture[1]}x{picture[0]} to '
          'the end')
    small = scenes.reduce(rgb)
    differences.append(
        0.0 if before is None else float(np.abs(small - before).mean()))
    power.append(float(np.square(sound).mean()))
    if index % LOOK_EVERY_FRAMES == 0:
      sure = [square for both, square in find_faces(rgb) if both]
      faces.append(sorted(sure, key=lambda square: -square[2]))
    before = small
  return Survey(picture=picture, differences=np.array(differences),
                power=np.array(power), faces=faces)


def plan_clips(seen: Survey, frames: int, size: int
               ) -> tuple[list[Plan], collections.Counter[str]]:
  """Clips one after another in each scene, and how many are dropped and why.

  Args:
    seen: of `survey`.
    frames: N per clip.
    size: side of a clip in pixels.
  """
  plans, dropped = [], collections.Counter()
  count = len(seen.power)
  ends = [0, *scenes.find_cuts(seen.differences), count]
  for begin, end in itertools.pairwise(ends):
    if end - begin < frames:
      dropped['scene too short'] += 1
    for start in range(begin, end - frames + 1, frames):
      try:
        plans.append(Plan(start=start, box=_box(seen, start, frames, size)))
      except crop.Unusable as reason:
        dropped[str(reason)] += 1
  return plans, dropped


def _box(seen: Survey, start: int, frames: int, size: int) -> crop.Box:
  """Crop of a clip; raises Unusable."""
  if seen.power[start:start + frames].mean() ** 0.5 < audio.QUIET_RMS:
    raise crop.Unusable('no sound')
  first = -(-start // LOOK_EVERY_FRAMES)
  after = -(-(start + frames) // LOOK_EVERY_FRAMES)
  return crop.face_crop(seen.faces[first:after], seen.picture, size)


def cut_clips(path: str | os.PathLike, plans: Sequence[Plan], frames: int,
              size: int) -> Iterator[tuple[Plan, np.ndarray, np.ndarray]]:
  """Yields (plan, [N, size, size, 3] uint8 RGB, waveform [640 N]) per plan.

  Args:
    path: of the video that was surveyed.
    plans: of `plan_clips`, in order.
    frames: N per clip.
    size: pixels.

  Raises:
    ValueError: as `survey`, or a file that has become shorter since.
  """
  waiting = list(plans)
  pictures, sounds = [], []
  pairs = zip(video.stream_frames(path), stream_sounds(path))
  for index, (rgb, sound) in enumerate(pairs):
    if not waiting:
      return
    if index < waiting[0].start:
      continue
    pictures.append(portrait.cut_out(rgb, waiting[0].box, size, size))
    sounds.append(sound)
    if len(pictures) == frames:
      yield waiting.pop(0), np.stack(pictures), np.concatenate(sounds)
      pictures, sounds = [], []
  if waiting:
    raise ValueError(f'{os.fspath(path)}: ended before frame '
                     f'{waiting[0].start + frames}; it has changed meanwhile')
