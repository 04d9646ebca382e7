"""The protocol end to end with a reader of random weights."""

import json
import types as types_lib

import numpy as np
from PIL import Image
import pytest

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import pixels
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import puppets
from asymtalker_jax.evals import reconstruction
from asymtalker_jax.evals import report
from asymtalker_jax.evals import systems
from tests.evals import speaking_boxes

FRAMES = 40
CHUNK = types.ChunkPlan(
    frames=9, height=32, width=32, temporal_stride=4, spatial_stride=8,
    latent_channels=4,
)


@pytest.fixture(scope='module')
def reader():
  return speaking_boxes.reader()


@pytest.fixture(scope='module')
def clips():
  return [speaking_boxes.clip(seed, FRAMES) for seed in range(3)]


@pytest.fixture(scope='module')
def cases(clips):
  return cases_lib.of_clips(clips)


@pytest.fixture(scope='module')
def metrics(reader):
  return lambda: [pixels.Pixels(), puppets.Puppets(reader)]


def still(case):
  return [case.image] * len(case.clip.frames)


def test_ground_truth_scores_perfectly(cases, metrics):
  result = protocol.run({}, cases, metrics)['gt']
  figures = result.figures
  assert figures['psnr'] == figures['psnr_still'] == 100.0
  np.testing.assert_allclose(figures['ssim'], 1.0, atol=1e-6)
  for name in ('identity_relative', 'motion_amplitude', 'frame_energy'):
    np.testing.assert_allclose(figures[name], 1.0)
  np.testing.assert_allclose(figures['frechet'], 0.0, atol=1e-6)
  np.testing.assert_allclose(figures['lab_shift'], 0.0, atol=1e-5)
  np.testing.assert_allclose(figures['still_share'], 1 - 64 / 1024)
  assert [row['name'] for row in result.clips] == cases.names
  assert result.protocol['puppets']['samples'] == 3 * FRAMES
  assert '120 samples of each of gt' in report.protocol_lines({'gt': result})


def test_frozen_portrait_has_no_sync_and_no_motion(cases, metrics):
  figures = protocol.run({'still': still}, cases, metrics)['still'].figures
  assert figures['lip_sync'] == 0.0
  assert figures['motion_amplitude'] < 1e-3 and figures['frame_energy'] == 0.0
  np.testing.assert_allclose(figures['identity'], 1.0, atol=1e-5)
  assert figures['psnr_still'] == 100.0 and figures['psnr'] < 40.0
  assert figures['frechet'] > 0.0 and figures['videos'] == 3.0


def test_failing_videos_are_listed_and_the_rest_is_scored(cases, metrics):
  def broken(case):
    if case.name == cases.names[1]:
      raise ValueError('cut off after 0.4 s')
    return still(case)

  results = protocol.run({'broken': broken}, cases, metrics)
  assert results['gt'].failures == [] and len(results['gt'].clips) == 3
  assert results['broken'].failures == [
      {'video': cases.names[1], 'reason': 'cut off after 0.4 s'}
  ]
  assert results['broken'].figures['videos'] == 2.0
  np.testing.assert_allclose(results['broken'].figures['identity'], 1.0,
                             atol=1e-5)
  lines = report.protocol_lines(results)
  assert 'samples: 120 of gt, 80 of broken' in lines


def test_a_metric_that_fails_leaves_the_others(clips, metrics):
  mute = types.Clip(
      frames=clips[0].frames, waveform=clips[0].waveform, identity=0
  )
  cases = cases_lib.of_clips([mute, clips[1]])
  result = protocol.run({}, cases, metrics)['gt']
  assert result.failures[0]['metric'] == 'puppets'
  assert 'mouth' in result.failures[0]['reason']
  assert result.figures['videos'] == 2.0
  assert result.protocol['pixels']['samples'] == 2


def test_networks_see_ground_truth_once_for_all_runs(cases, tmp_path):
  calls = []

  def features(frames):
    calls.append(int(frames[0, 0, 0, 0]))
    return frames.mean(axis=(1, 2), dtype=np.float64)

  def distance():
    return [networks.FeatureDistance('fid', '', 3, features, tmp_path)]

  black = lambda case: [0 * case.image] * len(case.clip.frames)
  white = lambda case: [0 * case.image + 255] * len(case.clip.frames)
  first = protocol.run({'black': black}, cases, distance)
  real = [90, 91, 92]
  assert sorted(calls) == [0, 0, 0, *real]
  calls.clear()
  second = protocol.run({'white': white}, cases, distance)
  assert calls == [255] * 3
  assert second['white'].figures['fid'] > 0
  np.testing.assert_allclose(second['gt'].figures['fid'], 0.0, atol=1e-6)
  assert first['gt'].protocol == second['gt'].protocol


def test_a_system_without_videos_has_failures_only(cases, metrics):
  def gone(case):
    raise FileNotFoundError(f'no video {case.name}.mp4')

  alone = protocol.run({'gone': gone}, cases, metrics)['gone']
  assert alone.figures == {'videos': 0.0} and len(alone.failures) == 3
  results = protocol.run({'gone': gone, 'still': still}, cases, metrics)
  assert results['gone'].figures['videos'] == 0.0
  assert len(results['gone'].failures) == 3 and results['still'].clips
  with pytest.raises(ValueError, match='0 cases'):
    protocol.run({}, cases_lib.of_clips([]), metrics)


def test_few_samples_are_warned_of(cases, reader):
  class Wide(puppets.Puppets):
    def __init__(self):
      super().__init__(reader)
      self.dimension = 1000

  result = protocol.run({}, cases, lambda: [Wide()])['gt']
  assert result.warnings == [
      'puppets: 120 samples for 1000 features; the distance is not comparable'
      ' with that of other sets'
  ]
  assert 'warning, gt: puppets: 120' in report.protocol_lines({'gt': result})


def test_features_that_are_left_out_are_not_kept(cases, reader):
  metric = puppets.Puppets(reader)
  case = cases[0]
  metric.update('a', case.clip.frames, case.clip, case.image)
  kept = metric._rows['a'].features
  assert kept.base is None and len(kept) <= puppets.KID_FRAMES_PER_CLIP


def test_windows_of_few_samples_are_warned_of():
  found = lambda: {'fvd_samples': [62, 61, 30]}
  metric, real = (
      types_lib.SimpleNamespace(name='fvd', dimension=40, samples=n, curves=c)
      for n, c in ((93, found), (93, dict))
  )
  line, = protocol._too_few(metric, real)
  assert 'fvd over time: from 30 samples for 40 features' in line
  assert protocol._too_few(real, real) == []


def test_lengths_and_sizes_are_brought_to_ground_truth(cases):
  case = cases[0]
  large = [np.repeat(np.repeat(f, 2, 0), 2, 1) for f in case.clip.frames]
  frames, truth = systems.fitted(large[:-3], case)
  assert frames.shape == (FRAMES - 3, 32, 32, 3)
  np.testing.assert_array_equal(frames, truth.frames)
  assert systems.fitted(case.clip.frames, case)[0] is case.clip.frames
  assert len(truth.waveform) == 640 * len(frames) == 640 * len(
      truth.tracks['mouth']
  )
  with pytest.raises(ValueError, match='28 frames, where 40 are wanted'):
    systems.fitted(large[:28], case)
  with pytest.raises(ValueError, match='52 or more frames'):
    systems.fitted(large * 2, case)
  with pytest.raises(ValueError, match='proportions'):
    systems.fitted([f[:16] for f in large], case)


def test_reconstruction_with_a_perfect_vae_gives_every_frame_once(clips):
  system = reconstruction.reconstruct(lambda x: x, lambda x: x, CHUNK)
  for count in (1, 5, 9, 12, 40):
    frames = clips[0].frames[:count]
    clip = types.Clip(
        frames=frames, waveform=clips[0].waveform, identity=0, tracks={}
    )
    np.testing.assert_array_equal(np.stack(list(system(clip))), frames)


def test_reports_are_complete_files(tmp_path, cases, metrics):
  results = protocol.run({}, cases, metrics)
  figures = results['gt'].figures | {'frames_per_s': float('nan')}
  text = report.table({'gt': figures})
  assert '| PSNR where nothing moves [dB] | >= 27 | 100 |' in text
  assert 'speed' not in text
  path = report.write_json(tmp_path / 'a/metrics.json', {'gt': figures})
  assert json.loads(path.read_text())['gt']['frames_per_s'] is None
  plain = {name: result.as_dict() for name, result in results.items()}
  plot = report.plot_lines(tmp_path / 'a.png', report.clip_panels(plain))
  assert Image.open(plot).size[0] > 500
  sheet = report.contact_sheet(
      tmp_path / 's.png', list(results['gt'].thumbnails.values())
  )
  assert Image.open(sheet).size == (3 * 32, 3 * 32)
  assert not list(tmp_path.rglob('.*.part'))
