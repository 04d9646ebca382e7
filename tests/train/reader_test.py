"""Training of the puppet reader on tiny clips."""

import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.train import reader

MODEL = dict(
    tracks=('mouth',), embedding=8, widths=(8, 8, 8), features=16, size=32
)
TRAIN = dict(
    steps=150, pairs=4, learning_rate=5e-3, weight_decay=0.0,
    identity_weight=0.3, temperature=0.1, seed=0,
)


def _clip(seed: int) -> types.Clip:
  rng = np.random.default_rng(seed)
  frames = np.empty((24, 32, 32, 3), np.uint8)
  frames[:] = rng.integers(0, 256, 3)
  mouth = rng.random(24).astype(np.float32)
  for frame, opening in zip(frames, mouth):
    frame[12 : 12 + int(16 * opening), 8:24] = 0
  return types.Clip(
      frames=frames, waveform=np.zeros(24 * 640, np.float32), identity=seed,
      tracks={'mouth': mouth},
  )


@pytest.fixture(scope='module')
def samples():
  return reader.draw_samples([_clip(i) for i in range(6)], ['mouth'], 8, 0)


def test_pairs_are_two_frames_of_one_identity():
  clips = [_clip(i) for i in range(6)]
  marked = [
      types.Clip(
          frames=clip.frames, waveform=clip.waveform, identity=clip.identity,
          tracks={'mouth': clip.identity + np.arange(24) / 100},
      )
      for clip in clips
  ]
  samples = reader.draw_samples(marked, ['mouth'], 8, 0)
  _, tracks = reader.make_batch(samples, 4, np.random.default_rng(0))
  owners = np.floor(tracks[:, 0])
  np.testing.assert_array_equal(owners[:4], owners[4:])
  assert len(set(owners[:4])) == 4
  assert np.all(tracks[:4] != tracks[4:])


def test_contrast_is_lowest_for_matching_pairs():
  matching = jnp.tile(jnp.eye(4), (2, 1))
  assert reader.contrast(matching, 0.1) < 1e-3
  same = jnp.ones((8, 4)) / 2
  np.testing.assert_allclose(reader.contrast(same, 0.1), np.log(7), rtol=1e-5)


def test_surroundings_are_swapped_and_the_face_is_kept():
  black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255)
  out = reader.swap_surroundings(black, white)
  assert np.all(out[0, 0] == 255) and np.all(out[16, 16] == 0)


def test_losses_fall(samples):
  model, _, history = reader.fit(MODEL, TRAIN, samples)
  assert history[-1]['tracks'] < 0.3 and history[-1]['identity'] < 1.5
  assert len(model['track_mean']) == 1


def test_bad_input_is_refused(samples):
  with pytest.raises(ValueError, match='pairs 64'):
    reader.fit(MODEL, dict(TRAIN, pairs=64), samples)
  with pytest.raises(ValueError, match='yaw'):
    reader.draw_samples([_clip(0)], ['yaw'], 4, 0)
