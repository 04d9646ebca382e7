"""Frames and sound into an MP4 that plays in a browser, through PyAV.

H.264 yuv420p (BT.709, tagged) and AAC, index at the front. A file appears under
its name only when it is complete: until then it has a temporary name beside it.
"""

import errno
import fractions
import os
import queue
import threading

import av
import numpy as np

from asymtalker_jax.inputs import audio

AAC_RATES_HZ = (16000, 22050, 24000, 32000, 44100, 48000)
FALLBACK_RATE_HZ = 48000


def sound_of(waveform: np.ndarray) -> audio.Blocks:
  """A 16 kHz mono waveform [S] as the sound of a video."""
  waveform = np.asarray(waveform, np.float32)[:, None]
  blocks = (waveform[i : i + 4096] for i in range(0, len(waveform), 4096))
  return audio.Blocks(
      sample_rate_hz=audio.SAMPLE_RATE_HZ, channels=1, blocks=blocks
  )


class VideoWriter:
  """Context manager that writes an MP4 frame by frame.

  On success the file is renamed to its name; on any exception, Ctrl-C included,
  the temporary file is removed and a file that already had the name stays.
  """

  def __init__(
      self,
      path: str | os.PathLike,
      height: int,
      width: int,
      fps: int = 25,
      sound: audio.Blocks | None = None,
      crf: int = 18,
  ):
    """Describes the file; nothing is created before `with`.

    Args:
      path: ends in .mp4.
      height: pixels, even.
      width: pixels, even.
      fps: frames per second.
      sound: read block by block beside the frames; all of it is written.
      crf: constant quality of x264, 0 (lossless) to 51.

    Raises:
      ValueError: another suffix, a folder, or odd sizes.
    """
    self.path = os.fspath(path)
    if not self.path.endswith('.mp4'):
      raise ValueError(f'{self.path}: expected a name that ends in .mp4')
    if os.path.isdir(self.path):
      raise ValueError(f'{self.path}: is a folder; expected a file name')
    if height % 2 or width % 2:
      raise ValueError(f'{width}x{height}: expected even sizes for H.264')
    folder, name = os.path.split(self.path)
    self._temporary = os.path.join(folder, f'.{name}.{os.getpid()}.part')
    self._size, self._fps, self._crf = (height, width), fps, crf
    self._sound = sound
    self._frames = 0
    self._samples = 0

  def __enter__(self) -> 'VideoWriter':
    try:
      # Opened by us first: FFmpeg's errors do not name the folder.
      with open(self._temporary, 'wb'):
        pass
      self._container = av.open(
          self._temporary, 'w', format='mp4',
          options={'movflags': '+faststart'},
      )
    except OSError as error:
      self._discard()
      raise OSError(
          f'{self.path}: cannot be written ({error.strerror})'
      ) from error
    self._video = self._video_stream()
    if self._sound is not None:
      self._audio, self._resampler = self._audio_stream()
    return self

  def write(self, frames: np.ndarray) -> None:
    """Appends frames and the sound up to their end.

    Args:
      frames: [n, H, W, 3] uint8 RGB.

    Raises:
      ValueError: frames of another size or type.
      OSError: the file cannot be written, as when the disk is full.
    """
    if frames.shape[1:] != (*self._size, 3) or frames.dtype != np.uint8:
      raise ValueError(
          f'frames {frames.shape} {frames.dtype}: expected'
          f' [n, {self._size[0]}, {self._size[1]}, 3] uint8'
      )
    try:
      for rgb in frames:
        self._container.mux(self._video.encode(self._frame(rgb)))
        self._frames += 1
      self._write_sound(until_s=self._frames / self._fps)
    except av.FFmpegError as error:
      raise self._unwritable(error) from error

  def __exit__(self, kind, error, traceback) -> None:
    if kind is not None:
      self._abandon()
      return
    try:
      self._write_sound(until_s=np.inf)
      if self._sound is not None:
        self._encode_sound(None)
        self._container.mux(self._audio.encode(None))
      self._container.mux(self._video.encode(None))
      self._container.close()
      os.replace(self._temporary, self.path)
    except av.FFmpegError as failure:
      self._abandon()
      raise self._unwritable(failure) from failure
    except BaseException:
      self._abandon()
      raise

  def _video_stream(self):
    stream = self._container.add_stream(
        'libx264', rate=self._fps,
        # Equal frames give equal bytes, see `data/codec.py`.
        options={'crf': str(self._crf), 'preset': 'veryfast',
                 'x264-params': 'cpu-independent=1'},
    )  # pyformat: disable
    stream.height, stream.width = self._size
    stream.pix_fmt = 'yuv420p'
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1  # 1 is BT.709 above and studio range here.
    return stream

  def _audio_stream(self):
    rate = self._sound.sample_rate_hz
    rate = rate if rate in AAC_RATES_HZ else FALLBACK_RATE_HZ
    layout = 'mono' if self._sound.channels == 1 else 'stereo'
    stream = self._container.add_stream('aac', rate=rate, layout=layout)
    stream.bit_rate = 64000 * (1 if layout == 'mono' else 2)
    resampler = av.AudioResampler(
        format='fltp', layout=layout, rate=rate, frame_size=1024
    )
    return stream, resampler

  def _frame(self, rgb: np.ndarray) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), 'rgb24')
    frame = frame.reformat(
        format='yuv420p',
        dst_colorspace='ITU709',
        dst_color_range='MPEG',
        interpolation='BICUBIC',
    )
    frame.pts = self._frames
    frame.time_base = fractions.Fraction(1, self._fps)
    return frame

  def _write_sound(self, until_s: float) -> None:
    """Encodes whole blocks until the sound reaches `until_s`."""
    if self._sound is None:
      return
    rate = self._sound.sample_rate_hz
    while self._samples / rate < until_s:
      block = next(self._sound.blocks, None)
      if block is None:
        return
      self._encode_sound(block)
      self._samples += len(block)

  def _encode_sound(self, block: np.ndarray | None) -> None:
    """Encodes a block, or what the resampler still holds for None."""
    frame = None
    if block is not None:
      if block.shape[1] > 2:  # Surround becomes two equal channels.
        block = np.repeat(block.mean(1, keepdims=True), 2, axis=1)
      planes = np.ascontiguousarray(block.T, np.float32).clip(-1.0, 1.0)
      frame = av.AudioFrame.from_ndarray(
          planes, 'fltp', 'mono' if len(planes) == 1 else 'stereo'
      )
      frame.sample_rate = self._sound.sample_rate_hz
      # With a time stamp the encoder declares its 1024 samples of delay, and
      # players skip them; without, the sound would be 20 to 60 ms late.
      frame.time_base = fractions.Fraction(1, frame.sample_rate)
      frame.pts = self._samples
    for resampled in self._resampler.resample(frame):
      self._container.mux(self._audio.encode(resampled))

  def _unwritable(self, error: av.FFmpegError) -> OSError:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
      reason = 'no space left on the disk'
    return OSError(f'{self.path}: cannot be written ({reason})')

  def _abandon(self) -> None:
    """Closes whatever is open without raising, and removes the file."""
    try:
      self._container.close()
    except (av.FFmpegError, OSError):
      pass  # Closing flushes, which fails again on a full disk.
    self._discard()

  def _discard(self) -> None:
    if os.path.exists(self._temporary):
      os.remove(self._temporary)


class BackgroundWriter:
  """Encodes on another thread while the next chunk is computed.

  The queue is bounded, so memory stays constant when encoding is the slower
  side. An error of the thread is raised by the next `write` or at the end.
  """

  def __init__(self, writer: VideoWriter, depth: int = 2):
    """Wraps a writer.

    Args:
      writer: not yet entered.
      depth: blocks of frames that may wait.
    """
    self._writer = writer
    self._queue = queue.Queue(depth)
    self._error = None
    self._thread = threading.Thread(target=self._work, daemon=True)

  def __enter__(self) -> 'BackgroundWriter':
    self._writer.__enter__()
    self._thread.start()
    return self

  def write(self, frames: np.ndarray) -> None:
    """Hands frames [n, H, W, 3] uint8 over; waits while the queue is full."""
    if self._error is not None:
      raise self._error
    self._queue.put(frames)

  def __exit__(self, kind, error, traceback) -> None:
    self._queue.put(None)
    self._thread.join()
    if kind is None and self._error is not None:
      kind, error = type(self._error), self._error
      self._writer.__exit__(kind, error, None)
      raise error
    self._writer.__exit__(kind, error, traceback)

  def _work(self) -> None:
    while (frames := self._queue.get()) is not None:
      if self._error is None:  # After an error, only empty the queue.
        try:
          self._writer.write(frames)
        except Exception as error:  # Raised by the next call; never lost.
          self._error = error
