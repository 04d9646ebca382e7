"""Puppets: identities, geometry, rendering, visemes and speech."""

import dataclasses

import numpy as np
import pytest

from data.puppets import clip as clip_lib
from data.puppets import head
from data.puppets import identity as identity_lib
from data.puppets import motion
from data.puppets import sentences
from data.puppets import speech
from data.puppets import visemes
from data.puppets.renderer import FrameState, Renderer, render_portrait

SIZE = 64
NEUTRAL = identity_lib.sample_identity(3)


def _renderer(**changes):
  return Renderer(dataclasses.replace(NEUTRAL, **changes), SIZE)


def test_an_identity_depends_on_its_seed_alone():
  assert identity_lib.sample_identity(7) == identity_lib.sample_identity(7)
  assert identity_lib.sample_identity(7) != identity_lib.sample_identity(8)


def test_categories_alone_distinguish_many_thousand_identities():
  found = set()
  for seed in range(1500):
    who = identity_lib.sample_identity(seed)
    tone = int(sum(who.skin_color) / 48)
    found.add((tone, who.hair_style, who.glasses, who.beard, who.clothes,
               who.background, who.hair_side, who.earrings))
  # 1500 draws that almost never meet: by the birthday bound the categories
  # have more than n^2 / (2 collisions) equally likely values.
  collisions = 1500 - len(found)
  assert 1500**2 / (2 * max(collisions, 1)) > 10_000


def test_two_puppets_look_different():
  images = [Renderer(identity_lib.sample_identity(seed), SIZE).render(
      FrameState()).astype(float) for seed in range(6)]
  for i, first in enumerate(images):
    for second in images[:i]:
      assert np.abs(first - second).mean() > 5


def test_unproject_inverts_project():
  shell = head.skull(NEUTRAL)
  camera = head.Camera(70.0, 128.0, 124.0)
  pose = head.Pose(yaw=0.3, pitch=-0.12, roll=0.08, x=0.02, y=0.01)
  lon = np.radians(np.array([-40.0, -10.0, 0.0, 25.0, 50.0]))
  y = np.array([-0.4, 0.1, 0.3, -0.1, 0.2])
  pixels = camera.project(shell.point(lon, y), pose)
  lon_back, y_back = shell.unproject(pixels[:, 0], pixels[:, 1], camera, pose)
  np.testing.assert_allclose(lon_back, lon, atol=0.02)
  np.testing.assert_allclose(y_back, y, atol=0.02)


def test_silhouette_bounds_the_projected_surface():
  shell = head.skull(NEUTRAL)
  camera, pose = head.Camera(70.0, 128.0, 124.0), head.Pose(yaw=0.3)
  y = np.zeros(1)
  rim = camera.project(shell.silhouette(y, pose, 1), pose)[0, 0]
  lon = np.linspace(-np.pi, np.pi, 721)
  inside = camera.project(shell.point(lon, np.zeros(721)), pose)[:, 0]
  assert abs(inside.max() - rim) < 0.05


def test_yaw_moves_the_nose_more_than_the_head():
  camera, shell = head.Camera(1.0, 0.0, 0.0), head.skull(NEUTRAL)
  points = np.concatenate([shell.front(np.zeros(1), np.zeros(1), 0.2),
                           shell.front(np.zeros(1), np.zeros(1), -0.8)])
  turned = camera.project(points, head.Pose(yaw=0.3))
  assert turned[0, 0] > turned[1, 0] + 0.2


def test_opening_the_mouth_changes_the_mouth_and_not_the_background():
  renderer = _renderer(beard='none')
  shut = renderer.render(FrameState(mouth=0.0)).astype(int)
  wide = renderer.render(FrameState(mouth=1.0)).astype(int)
  changed = np.abs(shut - wide).sum(-1) > 30
  rows, columns = np.nonzero(changed)
  assert 20 < changed.sum() < 0.1 * SIZE * SIZE
  assert rows.min() > 0.5 * SIZE and rows.max() < 0.85 * SIZE
  assert columns.min() > 0.25 * SIZE and columns.max() < 0.75 * SIZE


def test_a_frame_depends_on_the_state_alone():
  renderer = _renderer()
  state = FrameState(mouth=0.4, blink=0.3, pose=head.Pose(yaw=-0.2))
  first = renderer.render(state)
  renderer.render(FrameState(mouth=1.0))
  np.testing.assert_array_equal(first, renderer.render(state))


@pytest.mark.parametrize('style', identity_lib.HAIR_STYLES)
def test_every_hair_style_renders_at_the_limits_of_motion(style):
  renderer = _renderer(hair_style=style, beard='full', glasses='round')
  for sign in (-1, 1):
    pose = head.Pose(yaw=sign * np.radians(motion.YAW_LIMIT),
                     pitch=-sign * np.radians(motion.PITCH_LIMIT),
                     roll=sign * np.radians(motion.ROLL_LIMIT))
    image = renderer.render(FrameState(pose=pose, mouth=1.0, blink=1.0))
    assert image.shape == (SIZE, SIZE, 3) and image.std() > 10


@pytest.mark.parametrize('clothes', identity_lib.CLOTHES)
def test_every_kind_of_clothes_renders(clothes):
  assert _renderer(clothes=clothes).render(FrameState()).std() > 10


def test_portrait_has_the_asked_size():
  assert render_portrait(1, 96).shape == (96, 96, 3)


def test_motion_is_smooth_and_within_its_limits():
  rng = np.random.default_rng(0)
  for _ in range(20):
    moves = motion.sample_motion(rng, 200, rng.uniform(0, 1, 200) * 0 + 0.5)
    for track, limit in ((moves.yaw, motion.YAW_LIMIT),
                         (moves.pitch, motion.PITCH_LIMIT),
                         (moves.roll, motion.ROLL_LIMIT)):
      assert np.abs(track).max() <= limit
      assert np.abs(np.diff(track, 2)).max() < 1.0  # degrees per frame^2
    assert 0 <= moves.blink.min() and moves.blink.max() <= 1


def test_lips_close_at_every_labial_and_in_pauses():
  phonemes = ((0.0, ''), (0.2, 'm'), (0.28, 'ˈɑː'), (0.48, 'p'), (0.53, 'ˈa'),
              (0.7, 'b'), (0.76, 'ˈæ'), (1.0, ''))
  wave = np.full(32000, 0.3, np.float32)
  wave[16000:] = 0
  tracks = visemes.mouth_tracks(phonemes, wave, 50)
  for start, end in visemes.closures(phonemes, 2.0):
    assert tracks.mouth[int((start + end) / 2 * 25)] == 0
  assert tracks.mouth[int(0.38 * 25)] > 0.6  # the open vowel between them
  assert tracks.mouth[30:].max() == 0


def test_width_follows_rounding():
  wave = np.full(16000, 0.3, np.float32)
  spread = visemes.mouth_tracks(((0.0, 'iː'),), wave, 25).mouth_width[12]
  round_ = visemes.mouth_tracks(((0.0, 'uː'),), wave, 25).mouth_width[12]
  assert spread > 0.9 and round_ < 0.1


@pytest.mark.parametrize('language', sorted(sentences.GRAMMARS))
def test_no_sentence_is_in_both_splits(language):
  rng = np.random.default_rng(0)
  for split in ('train', 'test'):
    for _ in range(20):
      text = sentences.sentence(rng, language, split)
      assert sentences.split_of(text) == split
      assert '{' not in text


def test_unknown_language_or_split_lists_the_choices():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="'de', 'en'"):
    sentences.sentence(rng, 'tlh', 'train')
  with pytest.raises(ValueError, match="'train' or 'test'"):
    sentences.sentence(rng, 'en', 'validation')


@pytest.fixture(name='espeak')
def _espeak():
  pytest.importorskip('espeakng_loader')
  return speech.synthesizer()


def test_every_voice_exists(espeak):
  espeak.start()
  names = [base + variant for bases in speech.VOICES.values()
           for base in bases for variant in speech.VARIANTS]
  for name in names[::7]:
    espeak.say('a', speech.Voice('en', name, 160, 50, 50))


def test_speech_does_not_depend_on_what_was_said_before(espeak):
  def speak(seed):
    return speech.speak(np.random.default_rng(seed), 2.0, 'train').waveform
  first = speak(1)
  speak(2)
  np.testing.assert_array_equal(first, speak(1))
  assert first.shape == (32000,) and np.abs(first).max() <= 1.0


def test_phonemes_lie_in_order_within_the_speech(espeak):
  espeak.start()
  said = espeak.say('Bob may buy a map.', speech.Voice('en', 'en-us', 160, 50,
                                                       50))
  times = [t for t, _ in said.phonemes]
  assert times == sorted(times) and times[-1] <= len(said.waveform) / 16000
  names = ''.join(name for _, name in said.phonemes)
  assert names.count('b') == 3 and names.count('m') == 2


def test_the_mouth_follows_the_speech_at_lag_zero(espeak):
  totals = np.zeros(5)
  for seed in range(6):
    said = speech.speak(np.random.default_rng(seed), 7.04, 'train')
    mouth = visemes.mouth_tracks(said.phonemes, said.waveform, 176).mouth
    level = (said.waveform.reshape(176, 640) ** 2).mean(1) ** 0.25
    totals += [np.corrcoef(level[4:-4], mouth[4 + k:172 + k])[0, 1]
               for k in range(-2, 3)]
  assert totals.argmax() == 2 and totals[2] / 6 > 0.6


def test_a_clip_is_reproducible_and_has_its_tracks(espeak):
  first = clip_lib.make_clip(11, frames=6, size=SIZE)
  clip_lib.make_clip(12, frames=6, size=SIZE)
  second = clip_lib.make_clip(11, frames=6, size=SIZE)
  np.testing.assert_array_equal(first.frames, second.frames)
  np.testing.assert_array_equal(first.waveform, second.waveform)
  assert first.waveform.shape == (6 * 640,)
  assert set(first.tracks) == set(clip_lib.TRACKS)
  assert all(track.shape == (6,) for track in first.tracks.values())
  assert first.identity == 11
