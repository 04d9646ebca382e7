"""Systems under test: from a case to the frames of its video.

A bundle's videos are kept as files and scored from them, as those of any other
system are: all are compressed alike, and a run that is started again finds the
finished ones.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import hashlib
import itertools
import json
import os
import pathlib

import cv2
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import generation
from asymtalker_jax.evals import reconstruction
from asymtalker_jax.evals import report
from asymtalker_jax.generate import media
from asymtalker_jax.inputs import video

System = Callable[[cases_lib.Case], Iterable[np.ndarray]]
CONTAINERS = ('.mp4', '.mkv', '.mov', '.webm', '.avi', '.m4v')
# Peers drop some frames at the end of a chunk; more is another video.
SLACK_FRAMES = 12
CRF = 12  # of kept videos, x264; about 42 dB


def ground_truth(case: cases_lib.Case) -> np.ndarray:
  """The system that cannot be beaten."""
  return case.clip.frames


def resized(frame: np.ndarray, height: int, width: int) -> np.ndarray:
  """A frame [H, W, 3] uint8 at another size of the same shape.

  Raises:
    ValueError: other proportions, by more than 2 %.
  """
  old = frame.shape[:2]
  if old == (height, width):
    return frame
  if abs(old[1] * height / (old[0] * width) - 1.0) > 0.02:
    raise ValueError(
        f'frames of {old[1]}x{old[0]} pixels: expected the proportions of'
        f' {width}x{height}'
    )
  method = cv2.INTER_AREA if old[0] > height else cv2.INTER_CUBIC
  return cv2.resize(frame, (width, height), interpolation=method)


def aligned(
    frames: Iterable[np.ndarray], wanted: int, size: tuple[int, int]
) -> Iterator[np.ndarray]:
  """At most `wanted` frames, resized to `size` (height, width).

  Raises:
    ValueError: another shape, or SLACK_FRAMES fewer or more than wanted.
  """
  count = 0
  for frame in itertools.islice(frames, wanted + SLACK_FRAMES):
    if count < wanted:
      yield resized(frame, *size)
    count += 1
  apart = count - wanted
  if not count or abs(apart) >= SLACK_FRAMES:
    raise ValueError(
        f'{count}{" or more" if apart == SLACK_FRAMES else ""} frames, where'
        f' {wanted} are wanted; expected fewer than {SLACK_FRAMES} of difference'
    )


def fitted(
    frames: Iterable[np.ndarray], case: cases_lib.Case
) -> tuple[np.ndarray, types.Clip]:
  """Frames [N, H, W, 3] at the size of ground truth, and as much ground truth.

  Ground truth itself comes back as the same array, which is how metrics know
  it.

  Raises:
    ValueError: another shape, or lengths more than SLACK_FRAMES apart.
  """
  truth = case.clip
  if frames is truth.frames:
    return truth.frames, truth
  wanted = aligned(frames, len(truth.frames), truth.frames.shape[1:3])
  kept, count = np.empty_like(truth.frames), 0
  for count, frame in enumerate(wanted, 1):
    kept[count - 1] = frame
  if count < len(truth.frames):
    truth = types.Clip(
        frames=truth.frames[:count],
        waveform=truth.waveform[: count * 640],
        identity=truth.identity,
        tracks={name: track[:count] for name, track in truth.tracks.items()},
    )
  return kept[:count], truth


class Folder:
  """Videos that some other program made, NAME.mp4 for the case NAME; names
  are made those of cases, so that 'a (1).mp4' is found.

  Attributes:
    path: the folder.
    rates: frames/s of videos that were resampled so far, by file.
  """

  def __init__(self, path: str | os.PathLike):
    """Args: path: the folder; it need not be there yet.

    Raises:
      ValueError: two videos of one case.
    """
    self.path = pathlib.Path(path)
    self.rates: dict[str, float] = {}
    self._files = {}
    for file in sorted(self.path.iterdir() if self.path.is_dir() else ()):
      if file.suffix.lower() in CONTAINERS and not file.name.startswith('.'):
        other = self._files.setdefault(cases_lib.case_name(file.stem), file)
        if other != file:
          raise ValueError(
              f'{path}: {other.name} and {file.name} are videos of one case;'
              ' expected one'
          )

  def others(self, names: Sequence[str]) -> list[str]:
    """Files that belong to none of the named cases."""
    return [
        file.name
        for name, file in self._files.items()
        if name not in set(names)
    ]

  def missing(self, names: Sequence[str]) -> set[str]:
    """Those of the named cases that it has no video of."""
    return set(names) - set(self._files)

  def path_of(self, name: str) -> pathlib.Path:
    """The video of a case.

    Raises:
      FileNotFoundError: there is none.
    """
    file = self._files.get(name)
    if file is None:
      raise FileNotFoundError(f'{self.path}: no video {name}.mp4')
    return file

  def speed_of(self, name: str) -> None:
    """See `Kept.speed_of`; nobody knows."""

  def __call__(self, case: cases_lib.Case) -> Iterator[np.ndarray]:
    """Frames of the video of a case, at 25 fps.

    Raises:
      FileNotFoundError, ValueError: no such video, or a damaged one.
    """
    file = self.path_of(case.name)
    self.rates |= cases_lib.other_rate(file)
    yield from video.stream_frames(file, video.FPS)


def inputs_of(case: cases_lib.Case) -> str:
  """SHA-256 of what a model sees of a case: its image and its speech."""
  content = hashlib.sha256(repr(case.image.shape).encode())
  for part in (case.image, case.clip.waveform):
    content.update(np.ascontiguousarray(part))
  return content.hexdigest()


class Kept:
  """A model whose videos are kept in a folder, with a report beside each.

  Attributes:
    reports: of `Generation`, of every video used so far.
    made: videos of this process.
  """

  def __init__(
      self,
      model: generation.Generation,
      folder: str | os.PathLike,
      size: tuple[int, int],
      settings: dict,
  ):
    """Describes the folder; nothing is written yet.

    Args:
      model: generates what is not there yet.
      folder: made for the first video. FOLDER.json beside it has the settings:
        inside it, a case could have that name.
      size: (height, width) that the model generates.
      settings: of the model; must be those of the videos already there.

    Raises:
      ValueError: the folder holds videos of other settings.
    """
    self._model, self._size = model, size
    self._folder, self._settings = pathlib.Path(folder), settings
    self._note = self._folder.with_name(f'{self._folder.name}.json')
    self.reports: list[dict] = []
    self.made = 0
    if self._note.exists():
      found = json.loads(self._note.read_text())
      if found != settings:
        changed = sorted(
            k for k in found | settings if found.get(k) != settings.get(k)
        )
        raise ValueError(
            f'{folder}: holds videos made with other values of {changed};'
            ' expected a new --out'
        )

  def path_of(self, name: str) -> pathlib.Path:
    """The video of a case."""
    return self._folder / f'{name}.mp4'

  def _note_of(self, name: str) -> pathlib.Path:
    """The file of `speed_of`, which is written last."""
    return self._folder / f'{name}.json'

  def speed_of(self, name: str) -> dict | None:
    """Of `Generation`, of the video of a case that was made, with 'inputs'."""
    return json.loads(self._note_of(name).read_text())

  def make(self, case: cases_lib.Case) -> None:
    """Generates the video of a case unless it is there.

    Raises:
      ValueError: what is there was made from other inputs.
    """
    path, note = self.path_of(case.name), self._note_of(case.name)
    inputs = inputs_of(case)
    if path.exists() and note.exists():
      if self.speed_of(case.name)['inputs'] != inputs:
        raise ValueError(
            f'{path}: made from another portrait or speech than the case has'
            ' now; expected a new --out'
        )
      return
    image = resized(case.image, *self._size)
    if not self._note.exists():
      report.write_json(self._note, self._settings)
    self._folder.mkdir(exist_ok=True)
    sound = media.sound_of(case.clip.waveform)
    with media.VideoWriter(path, *self._size, sound=sound, crf=CRF) as file:
      for frame in self._model(image, case.clip.waveform, case.name):
        file.write(frame[None])
    report.write_json(note, self._model.reports[-1] | {'inputs': inputs})
    self.made += 1

  def __call__(self, case: cases_lib.Case) -> Iterator[np.ndarray]:
    """Frames of the kept video of a case, made if need be."""
    self.make(case)
    self.reports.append(self.speed_of(case.name))
    yield from video.stream_frames(self.path_of(case.name), video.FPS)


def reconstructed(bundle, size: tuple[int, int]) -> System:
  """Ground truth through the VAE of a bundle and back."""
  vae = bundle.params['vae']
  run = reconstruction.reconstruct(
      lambda frames: bundle.networks.encode_video(vae, frames),
      lambda latents: bundle.networks.decode_video(vae, latents),
      bundle.networks.chunk,
  )

  def system(case: cases_lib.Case) -> Iterator[np.ndarray]:
    clip = case.clip
    if clip.frames.shape[1:3] != size:
      clip = types.Clip(
          frames=np.stack([resized(f, *size) for f in clip.frames]),
          waveform=clip.waveform,
          identity=clip.identity,
      )
    return run(clip)

  return system
