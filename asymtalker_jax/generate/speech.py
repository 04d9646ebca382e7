"""What each chunk hears: features of a whole file or of a ring buffer.

Counted from the first frame of chunk 0, which lies `continuity_frames` before
the speech, chunk j covers [new j, new j + F). Before and behind the speech is
silence. A chunk reads RADIUS neighbours on both sides of its frames, so that
every frame has its window; at the ends of what is known the outermost frame is
repeated, as in training.

`Offline` knows the file; `Streaming` only the last seconds before the end of
the chunk, as a live source would (docs/method.md, section 4).
"""

from collections.abc import Iterable, Iterator

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.inputs import audio
from asymtalker_jax.models import audio_windows

RADIUS = 2  # neighbours on each side of an audio window
BUFFER_S = 8  # of FlashHead's ring buffer
SAMPLES_PER_FRAME = audio.SAMPLE_RATE_HZ // audio.FPS


class Offline:
  """Speech that is known as a whole, normalised over its whole length.

  Attributes:
    frames: N video frames to make.
    chunks: chunks that cover them.
  """

  def __init__(
      self,
      encoder: audio_windows.Encoder,
      params: types.Params,
      plan: types.ChunkPlan,
      waveform: np.ndarray,
      frames: int,
  ):
    """Lays silence around the speech; computes nothing yet.

    Args:
      encoder: of the bundle.
      params: of the encoder.
      plan: geometry of a chunk.
      waveform: [R, S] float32 at 16 kHz.
      frames: N.
    """
    self.frames, self._plan = frames, plan
    self.chunks = -(-frames // plan.new_frames)
    self._total = self.chunks * plan.new_frames + plan.continuity_frames
    lead = plan.continuity_frames * SAMPLES_PER_FRAME
    self._tracks = []
    for row in waveform:
      samples = np.zeros(self._total * SAMPLES_PER_FRAME, np.float32)
      prepared = encoder.prepare_waveform(row)[: len(samples) - lead]
      samples[lead : lead + len(prepared)] = prepared
      self._tracks.append(
          audio_windows.Track(encoder, params, samples, self._total)
      )

  def compile(self) -> tuple[int, ...]:
    """Compiles the encoder ahead of its first use; the shape of `hear`."""
    features = self._tracks[0].compile()
    count = self._plan.frames + 2 * RADIUS
    return len(self._tracks), count, *features[1:]

  def hear(self, chunk: int) -> np.ndarray:
    """Features [R, F + 2 RADIUS, L, A] around the frames of a chunk."""
    start = chunk * self._plan.new_frames - RADIUS
    stop = start + self._plan.frames + 2 * RADIUS
    first, last = max(start, 0), min(stop, self._total)
    ends = ((0, 0), (first - start, stop - last), (0, 0), (0, 0))
    found = np.stack([track.read(first, last) for track in self._tracks])
    return np.pad(found, ends, mode='edge')


class Streaming:
  """Speech that arrives while it is spoken.

  A ring buffer of samples, at first zeros, ends where the newest frame of the
  chunk ends. It is normalised and encoded anew for every chunk, as FlashHead
  does. The chunks are heard in order.

  Attributes:
    frames: N video frames to make.
    chunks: chunks that cover them.
  """

  def __init__(
      self,
      encoder: audio_windows.Encoder,
      params: types.Params,
      plan: types.ChunkPlan,
      blocks: Iterable[np.ndarray],
      frames: int,
      seconds: int = BUFFER_S,
  ):
    """Reads nothing yet.

    Args:
      encoder: of the bundle.
      params: of the encoder.
      plan: geometry of a chunk.
      blocks: of [n] float32 at 16 kHz, of any lengths.
      frames: N.
      seconds: length of the buffer, at least that of a chunk.

    Raises:
      ValueError: the buffer is shorter than a chunk.
    """
    self.frames, self._plan = frames, plan
    self.chunks = -(-frames // plan.new_frames)
    self._encoder, self._params = encoder, params
    self._seconds = seconds
    if seconds * audio.FPS < plan.frames:
      raise ValueError(
          f'audio buffer of {seconds} s: expected the {plan.frames} frames of a'
          ' chunk to fit'
      )
    self._pieces = _pieces(blocks, plan.new_frames * SAMPLES_PER_FRAME)
    self._buffer = np.zeros(seconds * audio.SAMPLE_RATE_HZ, np.float32)
    self._heard = 0

  def compile(self) -> tuple[int, ...]:
    """Compiles the encoder ahead of its first use; the shape of `hear`."""
    features = audio_windows.compile_encoder(
        self._encoder, self._params, len(self._buffer),
        self._seconds * audio.FPS,
    )
    return 1, self._plan.frames + 2 * RADIUS, *features[1:]

  def hear(self, chunk: int) -> np.ndarray:
    """Features [1, F + 2 RADIUS, L, A] around the frames of a chunk.

    Raises:
      ValueError: a chunk before those that were heard.
    """
    if chunk < self._heard - 1:
      raise ValueError(
          f'chunk {chunk} of a stream: {self._heard} chunks are gone; expected'
          ' rising numbers'
      )
    while self._heard <= chunk:
      joined = np.concatenate([self._buffer, next(self._pieces)])
      self._buffer = joined[-len(self._buffer) :]
      self._heard += 1
    frames = self._seconds * audio.FPS
    first = frames - self._plan.frames - RADIUS
    rows = np.clip(np.arange(first, frames + RADIUS), 0, frames - 1)
    features = audio_windows.encode(
        self._encoder, self._params,
        self._encoder.prepare_waveform(self._buffer), frames,
    )
    return np.asarray(features)[None, rows]


def _pieces(
    blocks: Iterable[np.ndarray], size: int
) -> Iterator[np.ndarray]:
  """Yields [size]: the blocks in a row, then silence without end."""
  held = np.zeros(0, np.float32)
  for block in blocks:
    held = np.concatenate([held, block])
    while len(held) >= size:
      yield held[:size]
      held = held[size:]
  yield np.pad(held, (0, size - len(held)))
  while True:
    yield np.zeros(size, np.float32)
