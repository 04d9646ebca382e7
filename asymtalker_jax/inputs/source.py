"""Raw datasets: TFDS ArrayRecord folders as sequences of Clip.

An example has the features `video` (MP4 or any container that PyAV reads,
bytes), `audio` (FLAC or WAV at 16 kHz mono, bytes), `identity` (int64) and
optionally `tracks` (name -> [N] float32). TensorFlow is not needed.
"""

from collections.abc import Sequence
import hashlib
import io
import os
import pathlib

import av
import numpy as np
import soundfile
import tensorflow_datasets as tfds

from asymtalker_jax.inputs import open_files
from asymtalker_jax.types import Clip

RATE_HZ, SAMPLES_PER_FRAME = 16000, 640
REQUIRED = ('video', 'audio', 'identity')


def decode_video(data: bytes) -> np.ndarray:
  """[N, H, W, 3] uint8 RGB frames of an encoded video, all of them."""
  with av.open(io.BytesIO(data)) as container:
    container.streams.video[0].thread_count = 1  # callers decode in parallel
    return np.stack([frame.to_ndarray(format='rgb24')
                     for frame in container.decode(video=0)])


def decode_audio(data: bytes) -> np.ndarray:
  """[S] float32 waveform in [-1, 1] of an encoded 16 kHz mono file.

  Raises:
    ValueError: if the rate is another or there is more than one channel.
  """
  waveform, rate = soundfile.read(io.BytesIO(data), dtype='float32')
  if rate != RATE_HZ or waveform.ndim != 1:
    raise ValueError(f'dataset audio has {rate} Hz and shape {waveform.shape}; '
                     f'expected {RATE_HZ} Hz mono')
  return waveform


class Clips(Sequence):
  """Random access to the clips of one split; decodes on access."""

  def __init__(self, source, name: str, indices: range | None = None):
    """Wraps a TFDS data source of undecoded examples.

    Args:
      source: of `builder.as_data_source`.
      name: for messages.
      indices: which examples, None for all.
    """
    self._source, self._name = source, name
    self._indices = range(len(source)) if indices is None else indices

  def __len__(self) -> int:
    return len(self._indices)

  def __repr__(self) -> str:
    return f'Clips({self._name}, {len(self)} clips)'

  def example(self, index: int) -> dict[str, object]:
    """The stored example without decoding video and audio."""
    if not -len(self) <= index < len(self):
      raise IndexError(f'clip {index} of {self!r}')
    return self._source[self._indices[int(index)]]

  def __getitem__(self, index: int | slice):
    """Clip `index`, or for a slice the undecoded sequence of its clips."""
    if isinstance(index, slice):
      return Clips(self._source, self._name, self._indices[index])
    example = self.example(index)
    frames = decode_video(example['video'])
    waveform = decode_audio(example['audio'])
    samples = SAMPLES_PER_FRAME * len(frames)
    if len(waveform) != samples:
      raise ValueError(f'clip {index} of {self._name} has {len(waveform)} '
                       f'audio samples; expected 640 x {len(frames)} frames')
    tracks = {name: np.asarray(values, np.float32)
              for name, values in example.get('tracks', {}).items()}
    return Clip(frames=frames, waveform=waveform,
                identity=int(example['identity']), tracks=tracks)


def _dataset_folder(path: str | os.PathLike[str]) -> pathlib.Path:
  """`path`, or the newest version folder of the TFDS dataset below it."""
  root = pathlib.Path(path)
  if not root.is_dir():
    raise FileNotFoundError(f'dataset folder {root} does not exist; expected a '
                            'folder with dataset_info.json')
  for pattern in ('dataset_info.json', '*/dataset_info.json',
                  '*/*/dataset_info.json'):
    found = [info.parent for info in sorted(root.glob(pattern))]
    if found:
      return found[-1]
  content = sorted(p.name for p in root.iterdir())[:5]
  raise FileNotFoundError(f'{root} holds no dataset (or an unfinished one); '
                          f'expected dataset_info.json, found {content}')


def open_clips(path: str | os.PathLike[str], split: str) -> Clips:
  """The clips of one split of a raw dataset, decoded lazily.

  Args:
    path: folder of a TFDS dataset in ArrayRecord files, itself or its
      NAME/VERSION parent.
    split: for example 'train' or 'test'.

  Returns:
    Sequence of Clip; picklable, so that Grain workers can hold it.

  Raises:
    FileNotFoundError: if there is no dataset; lists what was found.
    ValueError: if the split or a feature is missing; lists the choices.
  """
  folder = _dataset_folder(path)
  builder = tfds.builder_from_directory(folder)
  if split not in builder.info.splits:
    raise ValueError(f'split {split!r} is not in {folder}; expected one of '
                     f'{sorted(builder.info.splits)}')
  absent = [name for name in REQUIRED if name not in builder.info.features]
  if absent:
    raise ValueError(f'{folder} lacks the features {absent}; expected '
                     f'{list(REQUIRED)}, found {sorted(builder.info.features)}')
  open_files.allow(builder.info.splits[split].num_shards, f'{folder}')
  return Clips(builder.as_data_source(split), f'{folder}:{split}')


def fingerprint(clips: Sequence[Clip]) -> list:
  """Plain values that change with a split: its size, and the SHA-256 of its
  first and last video."""
  if not isinstance(clips, Clips):
    return [len(clips)]
  ends = [clips.example(index)['video'] for index in (0, len(clips) - 1)]
  return [len(clips), *(hashlib.sha256(data).hexdigest() for data in ends)]
