"""Videos become clips: in sync, one scene and one face each, cropped."""

import fractions
import weakref

import numpy as np
import pytest

from asymtalker_jax.generate import portrait
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import video
from data.videos import clip as clip_lib
from data.videos import crop
from data.videos import people
from data.videos import scenes
from tests.data import synthetic_video as synthetic

NTSC_FILM = fractions.Fraction(24000, 1001)


def flash_and_click(at_s, seconds, fps):
  """Frames with a bright one from `at_s` on for 40 ms, and a click then."""
  times = np.arange(round(seconds * fps)) / float(fps)
  pictures = [synthetic.picture(230 if 0 <= t - at_s < 0.04 else 60)
              for t in times]
  sound = synthetic.hum(seconds)
  start = round(at_s * synthetic.RATE_HZ)
  sound[start:start + 480] = 0.9
  return pictures, sound


@pytest.mark.parametrize('name, fps, video_s, sound_s', [
    ('x.mp4', 25, 0, 0), ('x.mp4', 30, 0, 0), ('x.mp4', NTSC_FILM, 0, 0),
    ('x.mkv', 30, 0, 0), ('x.ts', 25, 0, 0),
    ('x.mp4', 25, 0, 0.4), ('x.mp4', 30, 0.4, 0), ('x.mkv', NTSC_FILM, 0, 0.4),
])
def test_a_flash_and_a_click_stay_together(
    tmp_path, name, fps, video_s, sound_s
):
  at_s = 2.0
  pictures, sound = flash_and_click(at_s, 3.0, fps)
  path = synthetic.write(
      tmp_path / name, pictures[round(video_s * fps):],
      sound[round(sound_s * synthetic.RATE_HZ):], fps, video_s, sound_s)
  clips, _ = synthetic.clips_of(path, frames=35)
  start, frames, waveform = clips[1]
  assert (start, len(waveform)) == (35, 35 * 640)
  flash = int(np.argmax(frames.mean((1, 2, 3)) > 130))
  click = int(np.argmax(np.abs(waveform) > 0.4)) / 640
  assert abs(start + flash - 25 * at_s) <= 1
  assert abs(click - flash) <= 1


def test_a_scene_cut_starts_a_new_clip(tmp_path):
  levels = [60] * 21 + [160] * 19 + [100] * 5
  path = synthetic.write(tmp_path / 'x.mp4',
                         [synthetic.picture(level) for level in levels],
                         synthetic.hum(45 / 25))
  clips, dropped = synthetic.clips_of(path, frames=8)
  assert [start for start, _, _ in clips] == [0, 8, 21, 29]
  assert dropped == {'scene too short': 1}
  for _, frames, _ in clips:
    assert frames[:, 0, 0].astype(float).std(0).max() < 2


def test_only_a_difference_far_above_its_neighbours_is_a_cut():
  quiet = np.array([0, 1, 2, 1, 1, 2, 1, 1, 2, 1], float)
  cut = quiet.copy()
  cut[4] = 40
  flash = cut.copy()
  flash[5] = 40
  swing = quiet * 15  # a head that turns: many frames differ
  small = quiet / 10
  small[4] = 4
  assert scenes.find_cuts(cut) == [4]
  for other in (quiet, flash, swing, small):
    assert not scenes.find_cuts(other)
  assert scenes.find_cuts(np.array([0.0, 30.0, 0.0])) == [1]


def test_the_crop_is_that_of_a_portrait(tmp_path):
  face = (80, 24, 24)
  path = synthetic.write(tmp_path / 'x.mp4', [synthetic.picture(face=face)] * 8,
                         synthetic.hum(8 / 25))
  plans, _ = clip_lib.plan_clips(
      clip_lib.survey(path, synthetic.find_red), 8, 64)
  assert plans[0].box == portrait.crop_box((96, 128), face)
  (_, frames, _), = synthetic.clips_of(path, frames=8)[0]
  (_, (left, top, side)), = synthetic.find_red(frames[0])
  # The face is half as wide as the crop, 55 % of which is above its centre.
  np.testing.assert_allclose(side, 32, atol=2)
  np.testing.assert_allclose(left + side / 2, 32, atol=2)
  np.testing.assert_allclose(top + side / 2, 0.55 * 64, atol=2)


def test_one_crop_holds_a_face_that_sways():
  seen = [[(500 + x, 400, 100)] for x in (-30, -10, 0, 10, 30)]
  assert crop.face_crop(seen, (1000, 1200), 128) == portrait.crop_box(
      (1000, 1200), (500, 400, 100))


@pytest.mark.parametrize('seen, reason', [
    ([[(500, 400, 100)]] * 8 + [[]] * 2, 'no face'),
    ([[(500, 400, 100), (100, 400, 50)]] * 5, 'several faces'),
    ([[(300, 400, 100)]] * 4 + [[(700, 400, 100)]] * 5, 'face leaves the crop'),
    ([[(500, 400, 25)]] * 5, 'face too small'),
])
def test_clips_that_are_not_used(seen, reason):
  with pytest.raises(crop.Unusable, match=reason):
    crop.face_crop(seen, (1000, 1200), 128)


def test_a_small_second_face_and_a_missed_one_do_no_harm():
  seen = [[(500, 400, 100), (100, 400, 30)]] * 9 + [[]]
  assert crop.face_crop(seen, (1000, 1200), 128)[2] == 200


def test_silence_and_the_end_of_the_sound_are_not_used(tmp_path):
  sound = synthetic.hum(17.4 / 25)
  sound[:round(8 / 25 * synthetic.RATE_HZ)] = 0
  path = synthetic.write(tmp_path / 'x.mp4', [synthetic.picture()] * 40, sound)
  clips, dropped = synthetic.clips_of(path, frames=8)
  assert [start for start, _, _ in clips] == [8]
  assert dropped == {'no sound': 1}


@pytest.mark.parametrize('frames, whole', [(17, 17), (17.4, 17), (17.6, 18)])
def test_the_sound_of_the_last_frame_is_rounded(monkeypatch, frames, whole):
  monkeypatch.setattr(audio, 'stream_waveform', lambda path: iter(
      [np.ones(1000, np.float32), np.ones(round(640 * frames) - 1000)]))
  sounds = list(clip_lib.stream_sounds('x.mp4'))
  assert [len(sound) for sound in sounds] == [640] * whole


def test_memory_does_not_grow_with_the_video(monkeypatch):
  alive, most = [], 0

  def frames(path):
    nonlocal most
    del path
    for index in range(200):
      rgb = synthetic.picture(90 + index % 2)
      alive.append(weakref.ref(rgb))
      most = max(most, sum(ref() is not None for ref in alive))
      yield rgb

  def waveform(path):
    del path
    for _ in range(200):
      yield np.full(640, 0.1, np.float32)
  monkeypatch.setattr(video, 'stream_frames', frames)
  monkeypatch.setattr(audio, 'stream_waveform', waveform)
  clips, _ = synthetic.clips_of('x.mp4', frames=50)
  assert len(clips) == 4 and most <= 3


def test_the_frame_size_may_not_change(monkeypatch):
  pictures = [synthetic.picture(), synthetic.picture()[:80]]
  monkeypatch.setattr(video, 'stream_frames', lambda path: iter(pictures))
  monkeypatch.setattr(audio, 'stream_waveform',
                      lambda path: iter([np.ones(1280, np.float32)]))
  with pytest.raises(ValueError, match='128x80 .* expected 128x96'):
    clip_lib.survey('x.mp4', synthetic.find_red)


def touch(folder, *names):
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b'')
  return folder


def test_folders_or_files_name_the_person(tmp_path):
  names = [f'p{i}/deep/{k}.mp4' for i in range(30) for k in 'ab']
  touch(tmp_path, *names, 'p3.MKV', 'p3/notes.txt', '.hidden.mp4')
  videos = people.find_videos(tmp_path)
  assert len(videos) == 61
  by_person = {v.person: v for v in videos}
  assert len(by_person) == len({v.identity for v in videos}) == 30
  for found in videos:
    same = by_person[found.person]
    assert (found.split, found.identity) == (same.split, same.identity)
  # Fixed by the name for all time, not by the other files.
  assert by_person['p3'].identity == 2440247759001602130
  assert 1 <= sum(v.split == 'test' for v in by_person.values()) <= 8


def test_folders_may_say_the_split(tmp_path):
  touch(tmp_path, 'train/ann/1.mp4', 'train/bob.mp4', 'test/eve/1.mov')
  videos = people.find_videos(tmp_path)
  assert [(v.split, v.person) for v in videos] == [
      ('test', 'eve'), ('train', 'ann'), ('train', 'bob')]


@pytest.mark.parametrize('names, message', [
    ([], '0 videos'),
    (['ann/1.mp4'], 'say who is where'),
    (['train/ann/1.mp4'], '1 persons in train, 0 in test'),
    (['train/ann/1.mp4', 'test/ann/1.mp4'], "'ann' is in train and in test"),
    (['train/ann/1.mp4', 'test/eve/1.mp4', 'x.mp4'], r"videos in \['\.'\]"),
])
def test_folders_that_make_no_splits(tmp_path, names, message):
  with pytest.raises(ValueError, match=message):
    people.find_videos(touch(tmp_path, *names))


def test_a_missing_folder(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such folder'):
    people.find_videos(tmp_path / 'none')
