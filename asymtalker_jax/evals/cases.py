"""What is evaluated: (reference image, audio, ground-truth video) one by one.

From a split of a dataset, where the reference image is the clip's first frame,
or from a manifest: JSON lines or CSV with the columns

  video   ground truth; required
  image   identity reference; by default the first frame of the video
  audio   speech; by default the sound of the video
  name    of the case; by default the video's file name without its suffix

Paths are relative to the manifest. Nothing is decoded before its turn.
"""

from collections.abc import Iterable, Iterator, Sequence
import csv
import dataclasses
import json
import os
import pathlib
import re

from absl import logging
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.generate import portrait
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import source
from asymtalker_jax.inputs import video

SUFFIXES = ('.jsonl', '.csv')
COLUMNS = ('video', 'image', 'audio', 'name')
# Sound and picture of a recording may end this far apart.
SLACK_S = 0.5
MAX_FRAMES = 1500  # of ground truth, which is held in memory
_NAME = re.compile(r'[^\w.-]+')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """One task and its right answer.

  Attributes:
    name: also of its files; letters, digits, '.', '_' and '-'.
    image: [H, W, 3] uint8 identity reference.
    clip: ground truth, speech and, for puppets, tracks.
  """

  name: str
  image: np.ndarray
  clip: types.Clip


class Cases(Sequence):
  """Cases that are read on access.

  Attributes:
    names: of all of them, different from each other.
    rates: frames/s of ground truth that was resampled so far, by file.
  """

  def __init__(
      self,
      names: Sequence[str],
      clips: Sequence[types.Clip],
      images: Sequence[str | None] | None = None,
  ):
    """Args: clips: read on access. images: files of identity references; None
    for the first frame."""
    self.names = list(names)
    self._clips, self._images = clips, images
    self.rates: dict[str, float] = getattr(clips, 'rates', {})

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: int) -> Case:
    """Case `index`.

    Raises:
      FileNotFoundError, ValueError: its files are missing or damaged.
    """
    clip = self._clips[index]
    image = clip.frames[0]
    if self._images and self._images[index]:
      pixels = portrait.load_portrait(self._images[index], *image.shape[:2])
      image = np.rint((pixels + 1.0) * 127.5).astype(np.uint8)
    return Case(name=self.names[index], image=image, clip=clip)

  def first(self, count: int) -> 'Cases':
    """The first cases, all of them for a count that is larger."""
    return Cases(self.names[:count], self._clips, self._images)


def of_clips(clips: Sequence[types.Clip], prefix: str = 'clip') -> Cases:
  """Cases whose reference is the first frame of their clip."""
  names = [f'{prefix}_{index:05d}' for index in range(len(clips))]
  return Cases(names, clips)


def open_cases(path: str | os.PathLike, split: str = 'test') -> Cases:
  """Cases of a dataset folder, or of a manifest.

  Args:
    path: folder of a TFDS dataset, or a file with one of SUFFIXES.
    split: of the dataset.

  Raises:
    FileNotFoundError: no such folder or file.
    ValueError: not a manifest, an unknown split, or nothing in it.
  """
  path = os.fspath(path)
  if is_manifest(path):
    return _of_manifest(pathlib.Path(path))
  if os.path.isfile(path):
    raise ValueError(
        f'{path}: expected a dataset folder or a manifest that ends in'
        f' {" or ".join(SUFFIXES)}'
    )
  clips = source.open_clips(path, split)
  if not len(clips):
    raise ValueError(f'{clips!r}: expected at least one clip')
  return of_clips(clips, split)


def is_manifest(path: str) -> bool:
  """Whether a path is that of a manifest, by its ending."""
  return path.lower().endswith(SUFFIXES)


class _Recordings(Sequence):
  """Clips of the rows of a manifest."""

  def __init__(self, rows: Sequence[dict[str, str]]):
    self._rows = rows
    self.rates: dict[str, float] = {}

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> types.Clip:
    row = self._rows[index]
    self.rates |= other_rate(row['video'])
    frames = video.read_frames(row['video'], max_frames=MAX_FRAMES)
    waveform = audio.load_waveform(row['audio'])
    return types.Clip(
        frames=frames,
        waveform=fitted_sound(waveform, len(frames), row['audio']),
        identity=index,
    )


def fitted_sound(waveform: np.ndarray, frames: int, path: str) -> np.ndarray:
  """Speech [640 N] for N frames; up to SLACK_S are cut off or silent.

  Raises:
    ValueError: lengths further apart.
  """
  wanted = frames * source.SAMPLES_PER_FRAME
  apart = (len(waveform) - wanted) / audio.SAMPLE_RATE_HZ
  if abs(apart) > SLACK_S:
    raise ValueError(
        f'{path}: {len(waveform) / audio.SAMPLE_RATE_HZ:.2f} s of sound for'
        f' {frames / video.FPS:.2f} s of ground truth; expected at most'
        f' {SLACK_S} s of difference'
    )
  return np.pad(waveform, (0, max(0, wanted - len(waveform))))[:wanted]


def _of_manifest(path: pathlib.Path) -> Cases:
  """Cases of a manifest; its rows are checked, its files are not."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such manifest')
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8: {error}') from error
  rows = list(_rows(path, lines))
  if not rows:
    raise ValueError(f'{path}: no rows; expected one per video')
  names = [row['name'] for row in rows]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise ValueError(
        f'{path}: {len(twice)} names more than once, such as {twice[0]!r};'
        ' expected a column "name" that tells cases apart'
    )
  images = [row['image'] for row in rows]
  return Cases(names, _Recordings(rows), images)


def _rows(path: pathlib.Path, lines: Iterable[str]) -> Iterator[dict]:
  """Rows with all of COLUMNS; files as paths, '' where there is none."""
  for where, row in _parsed(path, lines):
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown or not row.get('video'):
      raise ValueError(
          f'{where}: {f"unknown columns {unknown}" if unknown else "no video"};'
          f' expected the columns {COLUMNS}, of which video is required'
      )
    values = {name: str(row.get(name) or '') for name in COLUMNS}
    name = values['name'] or pathlib.Path(values['video']).stem
    files = {
        key: os.fspath(path.parent / values[key]) if values[key] else ''
        for key in ('video', 'image', 'audio')
    }
    files['audio'] = files['audio'] or files['video']
    yield files | {'name': case_name(name)}


def case_name(text: str) -> str:
  """Text as the name of a case: other characters become '_'."""
  return _NAME.sub('_', text).lstrip('.')


def _parsed(
    path: pathlib.Path, lines: Iterable[str]
) -> Iterator[tuple[str, dict]]:
  """(place for messages, row) of either format."""
  if path.suffix.lower() == '.csv':
    for number, row in enumerate(csv.DictReader(lines), 2):
      if None in row:
        raise ValueError(f'{path}:{number}: more cells than columns')
      yield f'{path}:{number}', row
    return
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise ValueError(f'{path}:{number}: not JSON: {error}') from error
    if not isinstance(row, dict):
      raise ValueError(f'{path}:{number}: expected an object per line')
    yield f'{path}:{number}', row


def other_rate(path: str | os.PathLike) -> dict[str, float]:
  """{path: frames/s} of a video that is not at 25 fps, else {}: it is resampled
  when it is read, which is logged here."""
  with video.open_container(path) as container:
    streams = container.streams.video
    rate = float(streams[0].average_rate or video.FPS) if streams else video.FPS
  if abs(rate - video.FPS) <= 0.05:
    return {}
  logging.warning('%s: %.2f frames/s, resampled to %d', path, rate, video.FPS)
  return {os.fspath(path): rate}


def rate_lines(rates: dict[str, float]) -> list[str]:
  """What `other_rate` found of many videos, as lines for a reader."""
  if not rates:
    return []
  path, rate = next(iter(rates.items()))
  return [
      f'videos that were resampled to {video.FPS} frames/s: {len(rates)}, such'
      f' as {path} of {rate:.2f}'
  ]
