"""Video files as uint8 RGB frames at a constant rate, through PyAV.

Time zero is the start of the container, so that frames and the waveform that
`audio.py` reads from the same file stay in sync.
"""

from collections.abc import Iterator
import dataclasses
import os
import re

import av
from av.sidedata import sidedata
import numpy as np

from asymtalker_jax.inputs import promised_size

FPS = 25
MAX_SIDE = 8192  # pixels
# A file whose decodable part is shorter than its header says by more than this
# is called truncated; a few frames of slack are normal at the end of a stream.
MISSING_TAIL_S = 0.5
_MATROSKA_TIME = re.compile(r'(\d+):(\d+):(\d+(?:\.\d+)?)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoInfo:
  """What the header of a video file says.

  Attributes:
    width: pixels, before rotation and pixel aspect ratio.
    height: pixels.
    duration_s: seconds, 0 where the header does not say.
    has_audio: whether there is an audio stream.
  """

  width: int
  height: int
  duration_s: float
  has_audio: bool


def open_container(path: str | os.PathLike):
  """Opens a media file with PyAV.

  Args:
    path: file name.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a folder, an empty file or not a media file.
  """
  path = os.fspath(path)
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path}: no such file')
  if not os.path.isfile(path):
    raise ValueError(f'{path}: not a file')
  if not os.path.getsize(path):
    raise ValueError(f'{path}: empty file')
  try:
    return av.open(path)
  except av.FFmpegError as error:
    raise ValueError(
        f'{path}: not a readable media file, or cut off before its index'
        f' ({error.strerror})'
    ) from error


def start_time_s(container) -> float:
  """Seconds at which the earliest stream of a container starts."""
  return (container.start_time or 0) / av.time_base


def declared_end_s(container, stream) -> float | None:
  """Seconds from the start of a container to where the header says that a
  stream ends; None where it says nothing."""
  if stream.duration:
    end = (stream.start_time or 0) + stream.duration
    return float(end * stream.time_base) - start_time_s(container)
  # Matroska and WebM have a tag of each stream.
  tag = _MATROSKA_TIME.match(stream.metadata.get('DURATION', ''))
  if not tag:
    return None
  hours, minutes, seconds = map(float, tag.groups())
  return 3600 * hours + 60 * minutes + seconds - start_time_s(container)


def probe(path: str | os.PathLike) -> VideoInfo:
  """Header of a video file.

  Args:
    path: file name.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not media, no video stream, or a side above MAX_SIDE.
  """
  with open_container(path) as container:
    stream = _video_stream(path, container)
    return VideoInfo(
        width=stream.width,
        height=stream.height,
        duration_s=(container.duration or 0) / av.time_base,
        has_audio=bool(container.streams.audio),
    )


def stream_frames(
    path: str | os.PathLike, fps: float = FPS
) -> Iterator[np.ndarray]:
  """Yields [H, W, 3] uint8 RGB frames at a constant rate.

  Output frame k is the source frame nearest in time to k / fps, so a variable
  frame rate is resampled without drift. The display matrix (quarter turns and
  mirroring) and non-square pixels are applied. Memory holds two frames.

  Args:
    path: file name.
    fps: frames per second of the output.

  Raises:
    FileNotFoundError: no such file.
    ValueError: not media, no video stream, side above MAX_SIDE, no frames, or
      truncated (raised after the frames that could be read).
  """
  with open_container(path) as container:
    stream = _video_stream(path, container)
    stream.thread_type = 'AUTO'
    held, held_time, end, count = None, 0.0, 0.0, 0
    try:
      for frame, time in _timed(container, stream):
        end = time + _duration_s(frame, stream)
        if held is not None:
          while count / fps < (held_time + time) / 2:
            yield held
            count += 1
        held, held_time = _to_rgb(path, frame, stream), time
    except av.FFmpegError as error:
      raise ValueError(_truncated(path, end)) from error
    if held is None:
      raise ValueError(f'{path}: the video stream has no frames')
    while count < max(1, round(end * fps)):
      yield held
      count += 1
    declared = declared_end_s(container, stream)
    if declared and declared - end > MISSING_TAIL_S:
      raise ValueError(_truncated(path, end, declared))
    if promised_size.is_cut(path):
      raise ValueError(_truncated(path, end))


def read_frames(
    path: str | os.PathLike, fps: float = FPS, max_frames: int = 1500
) -> np.ndarray:
  """Whole video as [N, H, W, 3] uint8 RGB.

  Args:
    path: file name.
    fps: frames per second of the output.
    max_frames: largest N that is accepted (60 s at 25 fps).

  Raises:
    FileNotFoundError: no such file.
    ValueError: as `stream_frames`, or longer than `max_frames`.
  """
  frames = []
  for frame in stream_frames(path, fps):
    if len(frames) == max_frames:
      raise ValueError(
          f'{path}: more than {max_frames} frames ({max_frames / fps:g} s);'
          ' expected a shorter video'
      )
    frames.append(frame)
  return np.stack(frames)


def _timed(container, stream) -> Iterator[tuple[av.VideoFrame, float]]:
  """Frames in the order they are shown, with seconds since the start."""
  # AVI numbers packets as they are decoded, so that of frames which wait for
  # others only dts grows; it begins with the delay of the decoder.
  is_avi = container.format.name == 'avi'
  origin, time = None if is_avi else start_time_s(container), None
  step = float(1 / (stream.average_rate or FPS))
  for frame in container.decode(stream):
    stamp = frame.dts if is_avi else frame.pts
    if stamp is None:
      time = 0.0 if time is None else time + step
    else:
      absolute = float(stamp * frame.time_base)
      origin = absolute if origin is None else origin
      time = absolute - origin
    yield frame, time


def first_stream(path: str | os.PathLike, container, kind: str):
  """The first stream of a container that is 'video' or 'audio'.

  Raises:
    ValueError: there is none, or its header names no codec that exists.
  """
  streams = getattr(container.streams, kind)
  if not streams:
    raise ValueError(f'{os.fspath(path)}: no {kind} in this file')
  if streams[0].codec_context is None:
    raise ValueError(f'{os.fspath(path)}: {kind} in an unknown or damaged codec')
  return streams[0]


def _video_stream(path, container):
  stream = first_stream(path, container, 'video')
  _check_size(path, stream.width, stream.height)
  return stream


def _check_size(path, width: int, height: int) -> None:
  if max(width, height) > MAX_SIDE:
    raise ValueError(
        f'{os.fspath(path)}: {width}x{height} pixels; expected at most'
        f' {MAX_SIDE} a side'
    )


def _duration_s(frame, stream) -> float:
  """Seconds that a frame is shown; the average where the file is silent."""
  if frame.duration and frame.time_base:
    return float(frame.duration * frame.time_base)
  return float(1 / (stream.average_rate or FPS))


def _to_rgb(path, frame, stream) -> np.ndarray:
  """[H, W, 3] uint8 upright RGB with square pixels."""
  width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
  _check_size(path, width, frame.height)
  rgb = frame.to_ndarray(format='rgb24', width=width, height=frame.height)
  matrix = frame.side_data.get(sidedata.Type.DISPLAYMATRIX)
  if matrix is None:
    return rgb
  # Pixel (x, y) is shown at (a x + c y, b x + d y).
  a, b, _, c, d, *_ = np.frombuffer(matrix, '=i4').tolist()
  if abs(b) > abs(a):
    rgb, a, d = rgb.swapaxes(0, 1), c, b
  return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _truncated(path, end, declared=None) -> str:
  of = f' of {declared:.2f} s' if declared else ''
  return f'{os.fspath(path)}: damaged or truncated after {end:.2f} s{of}'
