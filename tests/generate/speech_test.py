"""What a chunk hears, offline and through the ring buffer."""

import dataclasses

import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.generate import speech
from asymtalker_jax.models import log_mel

PLAN = types.ChunkPlan(
    frames=17, height=8, width=8, temporal_stride=4, spatial_stride=4,
    latent_channels=3,
)  # 5 frames of continuity, 12 new frames
FRAME = speech.SAMPLES_PER_FRAME
FRAMES = 40  # 4 chunks of 12
FULL = 8 * 16000  # samples of the ring buffer


@dataclasses.dataclass(frozen=True)
class Level:
  """The feature is the mean of a frame; remembers what it is given."""

  seen: list = dataclasses.field(default_factory=list, compare=False)

  def prepare_waveform(self, waveform):
    self.seen.append(np.array(waveform))
    return waveform

  def encode(self, params, waveform, frames):
    del params
    return waveform.reshape(frames, FRAME).mean(1)[:, None, None]


def blocks(waveform, size=1001):
  return (waveform[i : i + size] for i in range(0, len(waveform), size))


def levels():
  """Frame n has level n + 1, so that every frame is known by its level."""
  return np.repeat(np.arange(1.0, FRAMES + 1, dtype=np.float32), FRAME)


def level_of(frames):
  """Of frame numbers; 0 outside the speech."""
  frames = np.asarray(frames)
  return np.where((frames >= 0) & (frames < FRAMES), frames + 1.0, 0.0)


@pytest.mark.parametrize('size', [1, 1001, 7680, 10**6])
def test_the_ring_buffer_holds_the_last_8_seconds_to_the_sample(size):
  rng = np.random.default_rng(0)
  waveform = rng.normal(size=FRAMES * FRAME).astype(np.float32)
  if size == 1:
    waveform = waveform[: 13 * FRAME]
  encoder = Level()
  stream = speech.Streaming(encoder, {}, PLAN, blocks(waveform, size), FRAMES)
  assert stream.chunks == 4
  endless = np.concatenate([np.zeros(FULL), waveform, np.zeros(FULL)])
  for chunk in range(4):
    stream.hear(chunk)
    end = FULL + (chunk + 1) * 12 * FRAME
    np.testing.assert_array_equal(encoder.seen[-1], endless[end - FULL : end])
  assert len(encoder.seen) == 4  # Encoded once per chunk.


def test_a_streaming_chunk_hears_its_frames_and_no_future():
  stream = speech.Streaming(Level(), {}, PLAN, blocks(levels()), FRAMES)
  for chunk in range(stream.chunks):
    frames = np.arange(12 * chunk - 5 - 2, 12 * chunk + 12)
    wanted = level_of(np.append(frames, [frames[-1]] * 2))
    np.testing.assert_array_equal(stream.hear(chunk)[0, :, 0, 0], wanted)


def test_an_offline_chunk_hears_its_frames_and_two_beyond():
  known = speech.Offline(Level(), {}, PLAN, levels()[None], FRAMES)
  assert known.chunks == 4
  for chunk in range(4):
    frames = np.arange(12 * chunk - 5 - 2, 12 * chunk + 12 + 2)
    wanted = level_of(np.clip(frames, -5, 4 * 12 - 1))
    np.testing.assert_array_equal(known.hear(chunk)[0, :, 0, 0], wanted)


def even_speech():
  """Noise of which every frame has mean 0 and root mean square 1, so that a
  gain measured on any part of it is 1."""
  frames = np.random.default_rng(0).normal(size=(FRAMES, FRAME))
  frames -= frames.mean(1, keepdims=True)
  frames /= np.sqrt(np.square(frames).mean(1, keepdims=True))
  return frames.reshape(-1).astype(np.float32)


def test_log_mel_streams_what_it_reads_offline_where_it_can_see():
  encoder = log_mel.LogMelEncoder(log_mel.LogMelConfig())
  known = speech.Offline(encoder, {}, PLAN, even_speech()[None], FRAMES)
  stream = speech.Streaming(encoder, {}, PLAN, blocks(even_speech()), FRAMES)
  for chunk in range(stream.chunks - 1):
    heard, wanted = stream.hear(chunk), known.hear(chunk)
    assert heard.shape == wanted.shape == (1, 17 + 4, 4, 40)
    # The last spectrum of the newest frame looks 11 ms into the future.
    np.testing.assert_allclose(heard[:, :-3], wanted[:, :-3], atol=1e-4)
    assert np.abs(heard[:, -3] - wanted[:, -3]).max() > 0.01


@pytest.mark.parametrize('kind', ['offline', 'streaming'])
def test_the_shape_is_known_before_the_first_chunk(kind):
  encoder = log_mel.LogMelEncoder(log_mel.LogMelConfig())
  if kind == 'offline':
    heard = speech.Offline(encoder, {}, PLAN, np.zeros((2, 9000)), 15)
  else:
    heard = speech.Streaming(encoder, {}, PLAN, [np.zeros(9000)], 15)
  assert heard.compile() == heard.hear(0).shape


def test_a_continued_stream_hears_the_same():
  whole = speech.Streaming(Level(), {}, PLAN, blocks(levels()), FRAMES)
  wanted = [whole.hear(chunk) for chunk in range(4)]
  later = speech.Streaming(Level(), {}, PLAN, blocks(levels()), FRAMES)
  np.testing.assert_array_equal(later.hear(2), wanted[2])
  np.testing.assert_array_equal(later.hear(3), wanted[3])
  with pytest.raises(ValueError, match='chunk 1 of a stream: 4 chunks are gone'):
    later.hear(1)


def test_a_buffer_shorter_than_a_chunk():
  plan = dataclasses.replace(PLAN, frames=33)
  with pytest.raises(ValueError, match='expected the 33 frames'):
    speech.Streaming(Level(), {}, plan, [], 10, seconds=1)
