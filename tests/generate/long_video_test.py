"""Long generation with networks whose output is known in advance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax import sampler_values
from asymtalker_jax import types
from asymtalker_jax.generate import color
from asymtalker_jax.generate import long_video
from asymtalker_jax.inputs import audio

PLAN = types.ChunkPlan(
    frames=17, height=8, width=8, temporal_stride=4, spatial_stride=4,
    latent_channels=3,
)  # 5 latent frames, 2 slots = 5 frames of continuity, 12 new frames
FRAME = long_video.SAMPLES_PER_FRAME


@dataclasses.dataclass(frozen=True)
class Level:
  """An audio encoder whose feature is the mean of a frame's samples."""

  def prepare_waveform(self, waveform):
    return np.asarray(waveform, np.float32)

  def encode(self, params, waveform, frames):
    del params
    return waveform.reshape(frames, FRAME).mean(1)[:, None, None]


@dataclasses.dataclass
class Known:
  """A VAE that averages and repeats, and a network that predicts `target`.

  target(x, conditioning) is the clean latent that the network answers with.
  """

  target: object
  chunk: types.ChunkPlan = PLAN
  values: dict = dataclasses.field(
      default_factory=lambda: {'reference_encoding': 'temporal'}
  )
  traces: int = 0
  audio: Level = Level()

  def encode_video(self, params, video):
    del params
    b, f, h, w, c = video.shape
    cells = video.reshape(b, f, h // 4, 4, w // 4, 4, c).mean((3, 5))
    rest = cells[:, 1:].reshape(b, (f - 1) // 4, 4, h // 4, w // 4, c).mean(2)
    return jnp.concatenate([cells[:, :1], rest], 1)

  def decode_video(self, params, latents):
    del params
    rest = jnp.repeat(latents[:, 1:], 4, axis=1)
    video = jnp.concatenate([latents[:, :1], rest], 1)
    return jnp.repeat(jnp.repeat(video, 4, axis=2), 4, axis=3)

  def bind_velocity(self, params):
    del params

    def velocity(x, timestep, conditioning):
      self.traces += 1
      sigma = (timestep / 1000.0)[:, None, None, None, None]
      target = jnp.broadcast_to(self.target(x, conditioning), x.shape)
      return (x - target) / sigma

    return velocity


PARAMS = {'vae': {}, 'dit': {}, 'audio': {}}
GREY = np.zeros((1, 8, 8, 3), np.float32)


def make(target, sample=None, **options):
  sample = sample or long_video.few_step([1000, 500], 5.0)
  return long_video.LongVideo(Known(target), PARAMS, sample, **options)


def run(video, waveform, image=GREY, seed=0, frames=None):
  identity, state = video.start(image, seed)
  speech = video.prepare(waveform, frames)
  parts = [f for f, _ in video.run(identity, speech, state)]
  return np.concatenate(parts, 1), parts


def brightness(frames):
  """Mean of [B, N, H, W, 3] uint8 per frame, back in [-1, 1]."""
  return frames.astype(np.float64).mean((0, 2, 3, 4)) / 127.5 - 1.0


def column(values):
  """[B, T] as latents."""
  return values[:, :, None, None, None]


def audio_of_last_frame(x, conditioning):
  """Each latent frame answers with the audio of the last frame it covers."""
  del x
  return column(conditioning.audio[:, ::4, 2, 0, 0])


@pytest.mark.parametrize('frames', [1, 11, 12, 13, 24, 37])
def test_exactly_the_frames_of_the_speech_come_out(frames):
  found, parts = run(make(audio_of_last_frame), np.zeros(frames * FRAME))
  assert found.shape == (1, frames, 8, 8, 3) and found.dtype == np.uint8
  assert [p.shape[1] for p in parts[:-1]] == [12] * (len(parts) - 1)


def test_every_frame_hears_its_own_audio():
  levels = np.linspace(-0.9, 0.9, 38)
  found, _ = run(make(audio_of_last_frame), np.repeat(levels, FRAME))
  # Frames 4n .. 4n + 3 share a latent frame, which hears the last of them; what
  # would lie past the end of the speech is silence.
  heard = np.append(levels, [0.0, 0.0])[3::4].repeat(4)[:38]
  np.testing.assert_allclose(brightness(found), heard, atol=0.01)


def test_audio_before_the_start_is_silence():
  def first_neighbour(x, conditioning):
    del x
    return column(conditioning.audio[:, ::4, 0, 0, 0])
  found, _ = run(make(first_neighbour), np.full(12 * FRAME, 0.5))
  # Latent frame 2 covers frames 0..3 and hears 3 - 2; slot 1 is before.
  np.testing.assert_allclose(brightness(found), 0.5, atol=0.01)
  video = make(first_neighbour)
  level = video.prepare(np.full(12 * FRAME, 0.5)).hear(0)[0, 2:-2, 0, 0]
  np.testing.assert_array_equal(level[:5], 0.0)
  np.testing.assert_array_equal(level[5:], 0.5)


def test_chunk_0_has_one_clean_slot_and_later_chunks_all():
  def slots(x, conditioning):
    del x
    return column(conditioning.mask.sum(1, keepdims=True) / 10.0)
  found, _ = run(make(slots), np.zeros(36 * FRAME))
  np.testing.assert_allclose(
      brightness(found), np.repeat([0.1, 0.2, 0.2], 12), atol=0.01
  )


@pytest.mark.parametrize('carry', sampler_values.CARRIES)
def test_a_chunk_starts_from_the_end_of_the_one_before(carry):
  def brighter(x, conditioning):
    del x
    last = conditioning.mask.sum(1).astype(int)[0] - 1
    return conditioning.continuity[:, last][:, None] + 0.1
  image = np.full((1, 8, 8, 3), -0.5, np.float32)
  found, _ = run(make(brighter, carry=carry), np.zeros(48 * FRAME), image)
  np.testing.assert_allclose(
      brightness(found), np.repeat([-0.4, -0.3, -0.2, -0.1], 12), atol=0.01
  )


def noise_and_carry(x, conditioning):
  return 0.2 * x + 0.5 * conditioning.continuity[:, :1]


def test_stopped_and_continued_runs_give_identical_frames():
  image = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3))
  waveform = np.zeros(50 * FRAME)
  whole, _ = run(make(noise_and_carry), waveform, image, seed=3)

  first = make(noise_and_carry)
  identity, state = first.start(image, 3)
  chunks = first.run(identity, first.prepare(waveform), state)
  parts = []
  for _ in range(2):
    frames, state = next(chunks)
    parts.append(frames)
  kept = state.to_bytes()

  second = make(noise_and_carry)  # Another process would do the same.
  identity, _ = second.start(image, 3)
  state = long_video.RolloutState.from_bytes(kept)
  assert state.chunk == 2
  parts += [
      f for f, _ in second.run(identity, second.prepare(waveform), state)
  ]
  np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_the_seed_decides_the_noise_and_chunks_differ():
  waveform = np.zeros(24 * FRAME)
  one, again, other = (
      run(make(noise_and_carry), waveform, seed=seed)[0] for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(one, again)
  assert np.abs(one.astype(int) - other).mean() > 1
  assert np.abs(one[:, :12].astype(int) - one[:, 12:]).mean() > 1


def test_the_state_does_not_grow():
  video = make(noise_and_carry)
  identity, state = video.start(GREY, 0)
  speech = video.prepare(np.zeros(20 * 12 * FRAME))
  sizes = [
      len(s.to_bytes()) for _, s in video.run(identity, speech, state)
  ]
  assert len(sizes) == 20
  assert max(sizes) - min(sizes) <= 8  # digits of the chunk counter


def test_all_chunks_run_one_compiled_function():
  video = make(noise_and_carry)
  networks = video._networks
  identity, state = video.start(GREY, 0)
  speech = video.prepare(np.zeros(40 * FRAME))
  video.compile(identity, speech, state)
  traced = networks.traces
  assert len(list(video.run(identity, speech, state))) == 4
  assert networks.traces == traced


def test_identities_in_one_batch_do_not_mix():
  def both(x, conditioning):
    del x
    heard = column(conditioning.audio[:, ::4, 2, 0, 0])
    return conditioning.reference / 2 + heard / 2
  images = np.stack([np.full((8, 8, 3), v, np.float32) for v in (-0.8, 0.4)])
  levels = np.array([[0.2], [-0.6]]) * np.ones((1, 24 * FRAME))
  found, _ = run(make(both), levels, images)
  np.testing.assert_allclose(brightness(found[:1]), -0.3, atol=0.01)
  np.testing.assert_allclose(brightness(found[1:]), -0.1, atol=0.01)


def test_colour_correction_acts_inside_the_loop():
  def darker(x, conditioning):
    return conditioning.continuity[:, :1] - 0.3 + 0.05 * x
  image = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 8, 8, 3))
  lab = lambda v: np.asarray(color.rgb_to_lab(jnp.asarray(v))).mean((-3, -2))
  wanted = lab(image / 2 + 0.5)
  drift = {}
  for strength in (0.0, 1.0):
    video = make(darker, color_correction=strength)
    found, _ = run(video, np.zeros(36 * FRAME), image)
    drift[strength] = np.linalg.norm(lab(found[0, -1] / 255.0) - wanted)
  assert drift[0.0] > 20
  assert drift[1.0] < 2


def test_guided_euler_reaches_the_guided_target():
  # Audio 0.3 against null audio 0: 0 + 2 (0.3 - 0) = 0.6.
  video = make(audio_of_last_frame, long_video.guided_euler(4, 5.0, 2.0))
  found, _ = run(video, np.full(12 * FRAME, 0.3))
  np.testing.assert_allclose(brightness(found), 0.6, atol=0.01)


def test_even_timesteps():
  assert long_video.even_timesteps(4) == [1000, 750, 500, 250]
  assert long_video.even_timesteps(2) == [1000, 500]
  with pytest.raises(ValueError, match='1 to 1000'):
    long_video.even_timesteps(0)


def test_wrong_options():
  with pytest.raises(ValueError, match="'pixels': expected one of"):
    make(noise_and_carry, carry='pixels')
  with pytest.raises(ValueError, match='expected 0 to 1'):
    make(noise_and_carry, color_correction=1.5)


def test_bytes_that_are_not_a_state():
  good = make(noise_and_carry).start(GREY, 0)[1].to_bytes()
  for bad in (b'', b'hello', good[:40], good[:-4], b'\x00' * 64):
    with pytest.raises(ValueError, match='not a rollout state') as error:
      long_video.RolloutState.from_bytes(bad)
    assert '\n' not in str(error.value)
  state = long_video.RolloutState.from_bytes(good)
  assert jax.random.key_data(state.key).tolist() == [0, 0]
