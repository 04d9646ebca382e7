"""Audio files as 16 kHz mono, and features in the windows the network reads.

Files are read in blocks, so a long stereo recording at 48 kHz never exists as
a whole in memory; what stays is 64 kB per second.
"""

from collections.abc import Callable, Iterator
import dataclasses
import os

from absl import logging
import av
import numpy as np
import soundfile
import soxr

from asymtalker_jax.inputs import promised_size
from asymtalker_jax.inputs import video

SAMPLE_RATE_HZ = 16000
FPS = 25
MIN_SECONDS = 1 / FPS
MAX_SECONDS = 6 * 3600
LOW_RATE_HZ = 12000  # below this, consonants are missing from the recording
QUIET_RMS = 1e-3  # -60 dB of full scale
MIN_RATE_HZ = 1000
MAX_LEVEL = 1e6  # of a sample; beyond it, loudness overflows float32
_BLOCK = 1 << 16
_CODEC_FRAME = 4096  # samples; the longest frame of common codecs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
  """A decoded audio file.

  Attributes:
    waveform: [S] float32 in about [-1, 1], mono, 16 kHz.
    seconds: exact length of the file at its own sample rate.
  """

  waveform: np.ndarray
  seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
  """An open audio file.

  Attributes:
    sample_rate_hz: of the file.
    channels: of the file.
    blocks: yields [n, channels] float32; may be read once.
  """

  sample_rate_hz: int
  channels: int
  blocks: Iterator[np.ndarray]


def open_blocks(path: str | os.PathLike) -> Blocks:
  """Opens an audio file, or the sound of a video, for reading in blocks.

  Audio formats are read by libsndfile; everything else (m4a, mp4, webm, ...) by
  FFmpeg inside PyAV, with the start of the container as time zero.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty, not media or without audio; while reading: truncated.
  """
  path = os.fspath(path)
  try:
    info = soundfile.info(path)
  except (soundfile.LibsndfileError, TypeError):  # This of a name in .raw.
    return _open_container(path)  # Which also says what is wrong, if anything.
  return Blocks(
      sample_rate_hz=info.samplerate,
      channels=info.channels,
      blocks=_sound_blocks(path),
  )


def read_recording(path: str | os.PathLike) -> Recording:
  """Decodes, mixes to mono and resamples a file to 16 kHz.

  Args:
    path: any audio or video file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: empty, truncated or not media, no samples, NaN, infinite or
      huge samples, fewer than MIN_RATE_HZ of them a second, shorter than one
      video frame (40 ms) or longer than 6 hours.
  """
  parts = []
  seconds = _listen(os.fspath(path), parts.append)
  return Recording(waveform=np.concatenate(parts), seconds=seconds)


def measure_seconds(path: str | os.PathLike) -> float:
  """Length of a file that `read_recording` would read, raising as that does;
  nothing of it is kept."""
  return _listen(os.fspath(path), lambda block: None)


def stream_waveform(path: str | os.PathLike) -> Iterator[np.ndarray]:
  """Yields the waveform of `read_recording` in blocks [n], in constant memory;
  raises as that does."""
  path = os.fspath(path)
  for block, _ in _resampled(path, open_blocks(path)):
    yield block


def load_waveform(path: str | os.PathLike) -> np.ndarray:
  """Waveform [S] float32, mono, 16 kHz; see `read_recording`."""
  return read_recording(path).waveform


def window_features(
    features: np.ndarray, start: int, frames: int, radius: int = 2
) -> np.ndarray:
  """Returns [frames, 2 radius + 1, L, A]: per frame its neighbourhood.

  Args:
    features: [N, L, A] at 25 Hz.
    start: first frame of the window; may be outside [0, N).
    frames: frames in the window.
    radius: neighbours on each side; indices are clamped to [0, N - 1].
  """
  return features[window_index(start, frames, len(features), radius)]


def window_index(
    start: int, frames: int, total: int, radius: int = 2
) -> np.ndarray:
  """[frames, 2 radius + 1] indices into `total` frames, clamped."""
  index = start + np.arange(frames)[:, None] + np.arange(-radius, radius + 1)
  return np.clip(index, 0, total - 1)


def _listen(path: str, take: Callable[[np.ndarray], None]) -> float:
  """Hands every block to `take`; returns seconds and warns as fits."""
  source = open_blocks(path)
  count, energy, seconds = 0, 0.0, 0.0
  for block, seconds in _resampled(path, source):
    take(block)
    count += len(block)
    energy += float(np.square(block, dtype=np.float64).sum())
  _warn(path, (energy / count) ** 0.5, source.sample_rate_hz)
  return seconds


def _resampled(
    path: str, source: Blocks
) -> Iterator[tuple[np.ndarray, float]]:
  """Yields 16 kHz mono [n] and the seconds of the file read so far."""
  rate = source.sample_rate_hz
  if rate < MIN_RATE_HZ:
    raise ValueError(
        f'{path}: sampled at {rate} Hz; expected at least {MIN_RATE_HZ}'
    )
  resampler = soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype='float32')
  samples = given = 0
  for block in source.blocks:
    if not (np.abs(block) < MAX_LEVEL).all():  # False of NaN as well.
      raise ValueError(
          f'{path}: NaN, infinite or huge samples at {samples / rate:.2f} s or'
          ' later; expected values in [-1, 1]'
      )
    samples += len(block)
    if samples > MAX_SECONDS * rate:
      raise ValueError(f'{path}: expected at most {MAX_SECONDS // 3600} hours')
    part = resampler.resample_chunk(block.mean(1))
    given += len(part)
    yield part, samples / rate
  if samples < MIN_SECONDS * rate:
    raise ValueError(
        f'{path}: {samples} samples at {rate} Hz ({1000 * samples / rate:.0f}'
        f' ms); expected at least {1000 * MIN_SECONDS:.0f} ms, one video frame'
    )
  part = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
  left = round(samples * SAMPLE_RATE_HZ / rate) - given
  yield np.pad(part, (0, max(0, left - len(part))))[:left], samples / rate


def _sound_blocks(path: str) -> Iterator[np.ndarray]:
  """Blocks of a libsndfile format; raises ValueError when it is cut off."""
  expected, read = 0, 0
  try:
    with soundfile.SoundFile(path) as file:
      rate = file.samplerate
      if file.format == 'MP3' and _has_mp3_length(path):
        expected = file.frames
      while len(block := file.read(_BLOCK, 'float32', always_2d=True)):
        read += len(block)
        yield block
  except soundfile.LibsndfileError as error:
    raise ValueError(
        f'{path}: damaged or truncated after {read} samples'
        f' ({error.error_string})'
    ) from error
  if expected - read > video.MISSING_TAIL_S * rate:
    raise ValueError(
        f'{path}: truncated after {read / rate:.2f} s of'
        f' {expected / rate:.2f} s'
    )
  if promised_size.is_cut(path):
    raise ValueError(f'{path}: truncated after {read / rate:.2f} s')


def _has_mp3_length(path: str) -> bool:
  """Whether an MP3 file says how long it is; else its length is a guess."""
  with open(path, 'rb') as file:
    head = file.read(_BLOCK)
  return b'Xing' in head or b'Info' in head


def _open_container(path: str) -> Blocks:
  """Audio stream of a media container."""
  with video.open_container(path) as container:
    stream = video.first_stream(path, container, 'audio')
    rate, channels = stream.rate, stream.channels
  return Blocks(
      sample_rate_hz=rate,
      channels=channels,
      blocks=_container_blocks(path, rate),
  )


def _container_blocks(path: str, rate: int) -> Iterator[np.ndarray]:
  """Blocks of a container from its time zero, as long as the header says."""
  with video.open_container(path) as container:
    stream = video.first_stream(path, container, 'audio')
    end = video.declared_end_s(container, stream)
    declared = np.inf if end is None else round(end * rate)
    # The tag of Matroska is rounded to milliseconds: no place to cut at.
    exact = declared if stream.duration else np.inf
    count = 0
    try:
      for block in _decoded(container, stream, rate):
        # The last AAC frame is padded; the header says by how much.
        if 0 < count + len(block) - exact <= _CODEC_FRAME:
          block = block[: max(0, exact - count)]
        count += len(block)
        if len(block):
          yield block
    except av.FFmpegError as error:
      raise ValueError(
          f'{path}: damaged or truncated after {count / rate:.2f} s'
      ) from error
    if np.inf > declared > count + video.MISSING_TAIL_S * rate:
      raise ValueError(
          f'{path}: truncated after {count / rate:.2f} s of'
          f' {declared / rate:.2f} s'
      )
    if promised_size.is_cut(path):
      raise ValueError(f'{path}: truncated after {count / rate:.2f} s')


def _decoded(container, stream, rate: int) -> Iterator[np.ndarray]:
  """[n, channels] float32 as decoded, with silence up to a late start and for
  gaps of more than MIN_SECONDS in the time stamps."""
  planar = av.AudioResampler(
      format='fltp', layout=stream.layout.name, rate=rate
  )
  origin, count = video.start_time_s(container), 0
  for decoded in container.decode(stream):
    if decoded.time is not None:
      gap = round((decoded.time - origin) * rate) - count
      # Time stamps are rounded, in some containers to milliseconds.
      if gap > (MIN_SECONDS * rate if count else 0):
        count += gap
        for start in range(0, gap, _BLOCK):
          size = min(_BLOCK, gap - start)
          yield np.zeros((size, stream.channels), np.float32)
    for frame in planar.resample(decoded):
      yield frame.to_ndarray().T
      count += frame.samples


def _warn(path: str, loudness: float, rate: int) -> None:
  """Warns where a valid file will not drive a mouth well."""
  if rate < LOW_RATE_HZ:
    logging.warning(
        '%s: sampled at %d Hz; lip movements will suffer below %d Hz',
        path, rate, LOW_RATE_HZ,
    )
  if not loudness:
    logging.warning('%s: silence; the mouth will hardly move', path)
  elif loudness < QUIET_RMS:
    logging.warning(
        '%s: very quiet (%.0f dB of full scale); lip movements will suffer',
        path, 20 * np.log10(loudness),
    )
