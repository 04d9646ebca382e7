"""Long videos, watched by a reader of random weights or by made-up networks."""

import dataclasses
import itertools

import numpy as np
import pytest

from asymtalker_jax.evals import asked_for
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import long_filmed
from asymtalker_jax.evals import long_puppets
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import long_tasks
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import systems
from tests.evals import speaking_boxes

FRAMES = 40


@pytest.fixture(scope='module')
def reader():
  return speaking_boxes.reader()


@pytest.fixture(scope='module')
def cases():
  clips = [speaking_boxes.clip(seed, FRAMES) for seed in range(3)]
  return list(cases_lib.of_clips(clips))


def taught(reader, cases):
  watcher = long_puppets.Puppets(reader)
  for case in cases:
    watcher.learn(case)
  return watcher


def measure(watcher, frames, task, window_s=10.0):
  seen = watcher.watch(frames, task, int(25 * window_s))
  return long_run.summarise(seen, window_s), seen.thumbnails


def test_long_run_sees_a_fading_video(reader, cases):
  task = long_tasks.task(cases, 30.0)
  count = len(task.clip.waveform) // 640
  fade = (
      (task.image * (1 - 0.5 * index / count)).astype(np.uint8)
      for index in range(count)
  )
  watcher = taught(reader, cases)
  result, thumbnails = measure(watcher, fade, task, window_s=5.0)
  figures = result['figures']
  assert figures['frames'] == 750 and len(thumbnails) == 3
  assert figures['lab_shift_last'] > 5.0
  assert len(result['curves']['identity']['values']) == 6
  assert len(result['curves']['frechet']['values']) == 6
  assert list(result['protocol']['networks'].values()) == ['puppet reader']
  assert result['curves']['lab_shift']['time_to_failure_s'] in (5.0, 10.0, 15.0)
  assert figures['within_limits_s'] <= 15.0
  assert figures['identity_slope_first_min'] == figures[
      'identity_slope_per_min'
  ]
  kept = iter([task.image] * count)
  still, _ = measure(watcher, kept, task, window_s=5.0)
  assert still['curves']['lab_shift']['time_to_failure_s'] is None
  mean = long_run.mean_figures([result, still])
  assert mean['frames'] == 750
  slopes = [r['figures']['identity_slope_per_min'] for r in (result, still)]
  # Student's t for one degree of freedom is 12.706.
  expected = 12.706 * abs(slopes[0] - slopes[1]) / 2
  assert mean['identity_slope_interval'] == pytest.approx(expected, rel=1e-3)


def test_a_video_that_never_fails_counts_with_its_whole_length(
    reader, cases, monkeypatch
):
  monkeypatch.setattr(long_run, 'LIMITS', {'lab_shift': long_run.LIMITS[
      'lab_shift'
  ]})  # pyformat: disable
  task, watcher = long_tasks.task(cases, 30.0), taught(reader, cases)
  results = [
      measure(
          watcher, [task.image] * 250 + [task.image + change] * 500, task
      )[0]
      for change in (np.uint8(0), np.uint8(60))
  ]
  times = [r['curves']['lab_shift']['time_to_failure_s'] for r in results]
  assert times == [None, 10.0]
  assert [r['figures']['within_limits_s'] for r in results] == [30.0, 10.0]
  assert long_run.mean_figures(results)['within_limits_s'] == 20.0
  assert long_run.mean_figures(results)['within_limits'] == 0.5


def test_the_slope_of_the_first_minute_is_beside_that_of_all(reader, cases):
  task = long_tasks.task(cases, 120.0)
  watcher = taught(reader, cases)
  other = np.random.default_rng(0).integers(0, 256, (30, *task.image.shape))
  # It loses the person in the first 60 s and stays as it then is.
  frames = [
      (task.image + (other[0] - task.image.astype(float)) * min(i / 1500, 1))
      .astype(np.uint8) for i in range(3000)
  ]  # pyformat: disable
  figures = measure(watcher, frames, task)[0]['figures']
  assert figures['identity_slope_first_min'] < 1.5 * figures[
      'identity_slope_per_min'
  ] < 0


def test_long_videos_are_of_different_people_on_their_own_speech(cases):
  alone, fewer = long_tasks.task(cases, 4.0), long_tasks.task(cases[:2], 4.0)
  assert alone.name.startswith('long_4s_') and alone.name != fewer.name
  assert alone.name == long_tasks.tasks(cases, 4.0, 1)[0].name
  tasks = long_tasks.tasks([cases[0], *cases], 4.0, 3)
  assert [task.clip.identity for task in tasks] == [0, 1, 2]
  assert len({task.name for task in tasks}) == 3
  np.testing.assert_array_equal(
      tasks[2].clip.tracks['mouth'][:FRAMES], cases[2].clip.tracks['mouth']
  )
  with pytest.raises(ValueError, match='3 clips are of 3 different people'):
    long_tasks.tasks(cases, 4.0, 4)


def test_looped_speech_has_the_asked_length(cases):
  clips = [case.clip for case in cases]
  waveform, tracks = long_tasks.looped_speech(clips, 7.0)
  mouth = tracks['mouth']
  assert len(waveform) == 7 * 16000 and len(mouth) == 175
  np.testing.assert_array_equal(mouth[120:160], clips[0].tracks['mouth'])
  mute = dataclasses.replace(clips[1], tracks={})
  assert long_tasks.looped_speech([clips[0], mute], 7.0)[1] == {}


def colours(frames):
  return frames.mean(axis=(1, 2), dtype=np.float64)


class Networks:
  """A factory of metrics; a dark frame has no face."""

  def __init__(self):
    self.windows = []

  def _identity(self, frames, clip, image):
    self.windows.append((len(frames), len(clip.waveform)))
    if frames.max() < 20:
      raise ValueError('no face')
    return {'arcface': float(frames.mean() / image.mean())}

  def __call__(self):
    return [
        networks.FeatureDistance('fid', 'mean colour', 3, colours),
        networks.PerVideo('arcface', '', self._identity),
        networks.PerVideo('lpips', '', lambda *_: pytest.fail('no truth')),
    ]


def filmed(cases, seconds):
  make = Networks()
  watcher = long_filmed.Filmed(make, 50)
  for case in cases:
    watcher.learn(case)
  return make, watcher, long_tasks.task(cases, seconds)


def test_every_window_of_a_filmed_talk_is_scored_as_a_video_of_its_own(cases):
  make, watcher, task = filmed(cases, 6.8)  # 170 frames: 50, 50 and 70.
  rng = np.random.default_rng(1)
  frames = rng.integers(30, 200, (170, *task.image.shape)).astype(np.uint8)
  result, _ = measure(watcher, iter(frames), task, window_s=2.0)
  assert make.windows == [(50, 32000), (50, 32000), (70, 44800)]
  truth, window = frechet.Moments(3), frechet.Moments(3)
  for case in cases:
    truth.update(colours(case.clip.frames))
  window.update(colours(frames[50:100]))
  curves = result['curves']
  assert curves['fid']['values'][1] == pytest.approx(
      frechet.distance(window, truth)
  )
  assert result['figures']['fid_last'] == curves['fid']['values'][2]
  np.testing.assert_allclose(
      curves['identity']['values'],
      [frames[a:b].mean() / task.image.mean() for a, b in
       ((0, 50), (50, 100), (100, 170))],
  )  # pyformat: disable
  assert set(curves) == {
      'identity', 'fid', 'face', 'lab_shift', 'frame_energy'
  }
  assert not result['protocol']['few_samples']
  assert list(result['protocol']['networks']) == ['arcface']
  assert '120 samples of ground truth' in long_run.notes([result])[0]


def test_a_face_that_is_lost_is_a_failure_at_its_time(cases):
  _, watcher, task = filmed(cases, 8.0)
  frames = np.full((200, *task.image.shape), 100, np.uint8)
  frames[100:150] = 10
  result, _ = measure(watcher, frames, task, window_s=2.0)
  curves, figures = result['curves'], result['figures']
  assert curves['face']['values'] == [1.0, 1.0, 0.0, 1.0]
  assert curves['face']['time_to_failure_s'] == 4.0
  assert np.isnan(curves['identity']['values'][2])
  assert curves['identity']['time_to_failure_s'] is None
  assert figures['within_limits_s'] == 4.0
  assert figures['identity_slope_per_min'] == pytest.approx(0.0)
  assert figures['identity_last'] == figures['identity_first']


def test_a_talk_without_a_face_at_its_start_cannot_be_measured(cases):
  _, watcher, task = filmed(cases, 8.0)
  frames = np.full((200, *task.image.shape), 10, np.uint8)
  with pytest.raises(ValueError, match='frames 0 to 49: no face'):
    watcher.watch(frames, task, 50)


def test_windows_with_fewer_samples_than_features_are_said_to_be(cases):
  make = lambda: [networks.FeatureDistance('fid', '', 60, lambda frames: (
      frames.reshape(len(frames), -1)[:, :60]
  ))]  # pyformat: disable
  watcher = long_filmed.Filmed(make, 50)
  for case in cases:
    watcher.learn(case)
  task = long_tasks.task(cases, 4.0)
  result, _ = measure(watcher, [task.image] * 100, task, window_s=2.0)
  assert result['protocol']['few_samples']
  assert 'of the same length only' in long_run.notes([result])[-1]


def test_windows_that_are_too_short_are_refused():
  make = lambda: [networks.PerVideo('sync', '', lambda *_: {})]
  with pytest.raises(ValueError, match='window_s=3: .* at least 3.76 for sync'):
    long_filmed.Filmed(make, 75)
  long_filmed.Filmed(make, 94)


def test_a_filmed_talk_may_lack_few_frames_and_no_more(cases):
  _, watcher, task = filmed(cases, 5.0)  # 125 frames: 50, 50 and 25.
  frames = np.full((125, *task.image.shape), 100, np.uint8)
  frames[100:] = 10

  def watch(count):
    given = systems.aligned(
        itertools.islice(itertools.cycle(frames), count), 125, (32, 32)
    )
    return measure(watcher, given, task, window_s=2.0)[0]

  # Its last window is what was scored, though it is not half a window.
  found = watch(120)
  assert found['curves']['face']['values'] == [1.0, 1.0, 0.0]
  assert found['curves']['face']['time_to_failure_s'] == 4.0
  assert found['figures']['face_share'] == pytest.approx(100 / 120)
  with pytest.raises(ValueError, match='113 frames, where 125'):
    watch(113)
  with pytest.raises(ValueError, match='137 or more frames, where 125'):
    watch(500)


def test_the_last_window_of_a_puppet_moves_about_one_mean(reader, cases):
  watcher = taught(reader, cases)
  task = long_tasks.task(cases, 4.96)  # 124 frames: 50 and 74.
  noise = np.random.default_rng(0).integers(0, 256, (124, *task.image.shape))
  seen = watcher.watch(noise.astype(np.uint8), task, 50)
  tracks = reader.read(noise.astype(np.uint8)).tracks
  yaw, pitch = (tracks[name][50:] for name in ('yaw', 'pitch'))
  np.testing.assert_allclose(
      seen.curves['motion'][50:],
      np.hypot(yaw - yaw.mean(), pitch - pitch.mean()), rtol=1e-5,
  )  # pyformat: disable


def test_tasks_of_another_run_are_removed(cases, tmp_path):
  tasks = [long_tasks.task(cases, seconds) for seconds in (4.0, 6.0)]
  for task in tasks:
    asked_for.write(tmp_path, [task])
  assert {path.stem for path in tmp_path.iterdir()} == {tasks[1].name}
