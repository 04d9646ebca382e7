"""Metrics of the field around their networks, which are made up here."""

import hashlib
import logging
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import types
from asymtalker_jax.convert import syncnet as layouts
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import faces
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import weights

RNG = np.random.default_rng(0)
VIDEOS = [RNG.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
          for _ in range(3)]  # pyformat: disable


def clip(frames):
  return types.Clip(frames=frames, waveform=np.zeros(640 * len(frames),
                                                     np.float32), identity=0)


def features(frames):
  """[n, 3] mean colours, the simplest network."""
  return frames.mean(axis=(1, 2), dtype=np.float64)


def distance(cache=None):
  return networks.FeatureDistance('fid', 'test', 3, features, cache)


def test_the_distance_is_over_all_frames_of_all_videos():
  real, fake = distance(), distance()
  for video in VIDEOS:
    real.update('a', video, clip(video), video[0])
    fake.update('a', 255 - video, clip(video), video[0])
  expected = [frechet.Moments(3), frechet.Moments(3)]
  expected[0].update(features(np.concatenate(VIDEOS)))
  expected[1].update(features(255 - np.concatenate(VIDEOS)))
  np.testing.assert_allclose(
      fake.figures(real)['fid'], frechet.distance(*expected)
  )
  assert fake.samples == real.samples == 120


def test_distances_over_time_are_those_of_the_windows_of_all_videos():
  rng = np.random.default_rng(1)
  # 300 frames: features of every 16th, the first 16 of them in window 0.
  videos = [rng.integers(0, 256, (n, 2, 2, 3)).astype(np.uint8)
            for n in (300, 300, 120)]  # pyformat: disable
  every = lambda frames: features(frames[::16])
  real, fake = (
      networks.FeatureDistance('fvd', '', 3, every, None, 16) for _ in 'ab'
  )
  assert fake.curves() == {}
  for video in videos:
    real.update('a', video, clip(video), video[0])
    fake.update('a', 255 - video, clip(video), video[0])
  fake.figures(real)
  whole, late = frechet.Moments(3), frechet.Moments(3)
  for video in videos:
    whole.update(every(video))
  for video in videos[:2]:
    late.update(every(255 - video)[16:])
  found = fake.curves()
  assert found['fvd_times'] == [5.0, 15.0]
  assert found['fvd_samples'] == [16 + 16 + 8, 3 + 3]
  np.testing.assert_allclose(found['fvd'][1], frechet.distance(late, whole))


def test_features_of_ground_truth_are_read_back_and_no_others(tmp_path):
  calls = []

  def counting(frames):
    calls.append(len(frames))
    return features(frames)

  def see(frames, truth):
    metric = networks.FeatureDistance('fid', '', 3, counting, tmp_path)
    metric.update('a', frames, truth, frames[0])
    return metric

  truth, other = clip(VIDEOS[0]), clip(VIDEOS[1])
  first = see(truth.frames, truth)
  again = see(truth.frames.copy(), truth)  # A system's frames: not kept.
  assert calls == [40, 40] and len(list(tmp_path.iterdir())) == 1
  second = see(truth.frames, truth)
  assert calls == [40, 40]
  np.testing.assert_array_equal(
      first._moments.covariance, second._moments.covariance
  )
  see(other.frames, other)
  assert calls == [40, 40, 40] and again.samples == 40


def test_features_are_kept_apart_by_the_content_of_the_networks_file(tmp_path):
  path = tmp_path / 'network.pth'
  folders = []
  for content in (b'one', b'other', b'one'):
    path.write_bytes(content)
    folders.append(networks._cache_of(tmp_path / 'kept', path))
  assert folders[0] == folders[2] != folders[1]
  assert {folder.parent.name for folder in folders} == {'kept'}


def test_fvd_cuts_a_video_into_windows_end_to_end():
  seen = []

  def network(clips):
    seen.append(clips)
    return clips.reshape(len(clips), -1)[:, :2]

  found = networks.clip_features(network, VIDEOS[0])
  assert found.shape == (2, 2)
  np.testing.assert_array_equal(seen[0][1], VIDEOS[0][16:32])
  with pytest.raises(ValueError, match='15 frames: FVD needs at least 16'):
    networks.clip_features(network, VIDEOS[0][:15])


def test_batches_do_not_change_features():
  np.testing.assert_array_equal(
      networks.in_batches(features, 7)(VIDEOS[0]), features(VIDEOS[0])
  )


def test_identity_is_the_mean_cosine_to_the_reference():
  points = np.float64([[3, 4], [7, 4], [5, 6], [3.5, 8], [6.5, 8]]) * 10
  box = np.array([0.0, 0.0, 100.0, 100.0, *points.ravel(), 0.9])[None]
  frames = np.zeros((4, 120, 120, 3), np.uint8)
  frames[2:] = 200
  # Dark faces are (1, 0), bright ones (0, 1).
  embed = lambda crops: np.stack([
      [1.0, 0.0] if crop.mean() < 100 else [0.0, 1.0] for crop in crops
  ])  # pyformat: disable
  found = networks.measure_identity(
      embed, lambda frame: box, frames, clip(frames), frames[0]
  )
  assert found == {'arcface': 0.5}
  with pytest.raises(ValueError, match='no face'):
    networks.measure_identity(
        embed, lambda frame: np.zeros((0, 15)), frames, clip(frames), frames[0]
    )
  assert faces.MAX_GAP_FRAMES == 25


def test_missing_files_are_all_named_with_source_and_checksum(
    tmp_path, caplog
):
  with pytest.raises(FileNotFoundError) as error:
    networks.load(['fid', 'arcface'], tmp_path)
  message = str(error.value)
  assert '3 of 3 files are missing' in message and '\n' not in message
  for file in (weights.INCEPTION, weights.ARCFACE, weights.FACES):
    assert file.name in message and f'missing: {file}' in caplog.messages
    assert file.sha256 in str(file) and 'https://' in file.source
  with pytest.raises(FileNotFoundError, match='--weights_dir=: 1 of 1'):
    networks.load(['fvd'], None)
  assert networks.load([], None) == {}


def test_every_network_has_its_files_and_where_they_come_from():
  assert set(networks.METRICS) == {
      'fid', 'fvd', 'sync', 'arcface', 'lpips', 'blinks'
  }
  assert set(networks._LOADERS) == set(networks.METRICS)
  for files in weights.OF_METRIC.values():
    for file in files:
      assert file.source and (file.sha256 or 'SHA-256' in file.source)


def test_a_file_of_another_content_is_warned_of(tmp_path, caplog, monkeypatch):
  good, others = b'weights', b'others'
  digest = hashlib.sha256(good).hexdigest()
  path = tmp_path / 'a.pth'
  for known in (digest, digest[:8]):
    file = weights.File(name='a.pth', source='x', sha256=known)
    monkeypatch.setitem(weights.OF_METRIC, 'fvd', (file,))
    with caplog.at_level(logging.WARNING, 'absl'):
      path.write_bytes(good)
      files = weights.find(['fvd'], tmp_path)
      assert files == {'a.pth': path}
      assert weights.others('fvd', files) == () and not caplog.records
      path.write_bytes(others)
      found = hashlib.sha256(others).hexdigest()[:12]
      assert weights.others('fvd', files) == (
          f'a.pth is another file, SHA-256 {found}',
      )
    assert 'not comparable' in caplog.text
    caplog.clear()


def test_figures_of_another_file_say_so(tmp_path, monkeypatch):
  monkeypatch.setitem(networks._LOADERS, 'fid', lambda files, cache: distance)
  path = tmp_path / weights.INCEPTION.name
  path.write_bytes(b'others')
  found = hashlib.sha256(b'others').hexdigest()[:12]
  line = f'{path.name} is another file, SHA-256 {found}'

  def score():
    make = networks.load(['fid'], tmp_path)['fid']
    cases = cases_lib.of_clips([clip(video) for video in VIDEOS])
    result = protocol.run({}, cases, lambda: [make()])['gt']
    return result.as_dict()

  marked = score()
  assert marked['protocol']['fid']['description'] == (
      f'test; not comparable: {line}'
  )
  assert marked['warnings'] == [f'fid: {line}']
  published = weights.File(
      name=path.name, source='x', sha256=weights.digest(path)
  )
  monkeypatch.setitem(weights.OF_METRIC, 'fid', (published,))
  plain = score()
  assert plain['protocol']['fid']['description'] == 'test'
  assert plain['warnings'] == []


def test_a_converted_syncnet_keeps_the_checksum_of_its_source(
    tmp_path, monkeypatch
):
  assert weights.SYNCNET.made_from == layouts.SHA256
  source = tmp_path / 'syncnet_v2.model'
  source.write_bytes(b'checkpoint')
  tensors = {'lip': {'bias': np.ones(2, np.float32)}}
  monkeypatch.setattr(layouts.reader, 'open_checkpoint', lambda path: None)
  monkeypatch.setattr(layouts, 'convert', lambda checkpoint: tensors)
  path = layouts.convert_file(str(source), str(tmp_path))
  files = {'syncnet.safetensors': pathlib.Path(path)}
  digest = hashlib.sha256(b'checkpoint').hexdigest()
  official = lambda sha256: weights.File(
      name='syncnet.safetensors', source='x', sha256='', made_from=sha256
  )
  monkeypatch.setitem(weights.OF_METRIC, 'sync', (official(digest),))
  assert weights.others('sync', files) == ()
  monkeypatch.setitem(weights.OF_METRIC, 'sync', (weights.SYNCNET,))
  assert weights.others('sync', files) == (
      'syncnet.safetensors was converted from another file, SHA-256'
      f' {digest[:12]}',
  )
  safetensors.numpy.save_file({'x': np.ones(1)}, path)  # As it was before.
  (line,) = weights.others('sync', files)
  assert 'does not say what it was converted from' in line
  assert line.endswith(weights.digest(files['syncnet.safetensors'])[:12])
  files['syncnet.safetensors'].write_bytes(b'damaged')
  assert weights.others('sync', files) == ()


def test_fvd_says_which_windows_it_takes(monkeypatch):
  monkeypatch.setattr(networks.torch_networks, 'i3d', lambda path: features)
  monkeypatch.setattr(networks, '_cache_of', lambda cache, path: None)
  metric = networks._fvd({weights.I3D.name: 'x'}, None)()
  assert 'windows of 16 frames end to end' in metric.description
  assert 'N is the number of windows' in metric.description
  assert '2048 random clips' in metric.description
