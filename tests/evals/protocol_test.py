"""The protocol end to end with a reader of random weights."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

from asymtalker_jax import types
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.evals import reconstruction
from asymtalker_jax.evals import report
from asymtalker_jax.models.metric import puppet_reader

MODEL = dict(
    tracks=['mouth', 'yaw', 'pitch', 'blink'], embedding=8, widths=[8, 8, 8],
    features=8, size=32, track_mean=[0.0] * 4, track_std=[1.0] * 4,
)
FRAMES = 40
CHUNK = types.ChunkPlan(
    frames=9, height=32, width=32, temporal_stride=4, spatial_stride=8,
    latent_channels=4,
)


def _clip(seed: int) -> types.Clip:
  rng = np.random.default_rng(seed)
  frames = np.full((FRAMES, 32, 32, 3), 90 + seed, np.uint8)
  mouth = rng.random(FRAMES).astype(np.float32)
  frames[:, 8:16, 8:16] = (255 * mouth[:, None, None, None]).astype(np.uint8)
  return types.Clip(
      frames=frames, waveform=np.zeros(640 * FRAMES, np.float32),
      identity=seed, tracks={'mouth': mouth},
  )


@pytest.fixture(scope='module')
def reader():
  return reader_lib.Reader(MODEL, puppet_reader.init(MODEL, jax.random.key(0)))


@pytest.fixture(scope='module')
def clips():
  return [_clip(seed) for seed in range(3)]


def test_ground_truth_scores_perfectly(reader, clips):
  results, scores = protocol.run({}, clips, reader)
  figures = results['gt']['figures']
  assert figures['psnr'] == figures['psnr_still'] == 100.0
  np.testing.assert_allclose(figures['ssim'], 1.0, atol=1e-6)
  for name in ('identity_relative', 'motion_amplitude', 'frame_energy'):
    np.testing.assert_allclose(figures[name], 1.0)
  np.testing.assert_allclose(figures['frechet'], 0.0, atol=1e-6)
  np.testing.assert_allclose(figures['lab_shift'], 0.0, atol=1e-5)
  np.testing.assert_allclose(figures['still_share'], 1 - 64 / 1024)
  assert len(scores['gt']) == 3


def test_frozen_portrait_has_no_sync_and_no_motion(reader, clips):
  still = protocol.from_generator(
      lambda image, waveform: [image] * (len(waveform) // 640)
  )
  figures = protocol.run({'still': still}, clips, reader)[0]['still']['figures']
  assert figures['lip_sync'] == 0.0
  assert figures['motion_amplitude'] < 1e-3 and figures['frame_energy'] == 0.0
  np.testing.assert_allclose(figures['identity'], 1.0, atol=1e-5)
  assert figures['psnr_still'] == 100.0 and figures['psnr'] < 40.0
  assert figures['frechet'] > 0.0


def test_missing_frames_and_tracks_are_refused(reader, clips):
  with pytest.raises(ValueError, match='39 frames for a clip of 40'):
    protocol.score_clip(clips[0].frames[:-1], clips[0], reader)
  mute = types.Clip(
      frames=clips[0].frames, waveform=clips[0].waveform, identity=0
  )
  with pytest.raises(ValueError, match='mouth'):
    protocol.score_clip(mute.frames, mute, reader)
  with pytest.raises(ValueError, match='0 clips'):
    protocol.run({}, [], reader)


def test_reconstruction_with_a_perfect_vae_gives_every_frame_once(clips):
  system = reconstruction.reconstruct(lambda x: x, lambda x: x, CHUNK)
  for count in (1, 5, 9, 12, 40):
    frames = clips[0].frames[:count]
    clip = types.Clip(
        frames=frames, waveform=clips[0].waveform, identity=0, tracks={}
    )
    np.testing.assert_array_equal(np.stack(list(system(clip))), frames)


def test_long_run_sees_a_fading_video(reader, clips):
  def fade(image, waveform):
    count = len(waveform) // 640
    for index in range(count):
      yield (image * (1 - 0.5 * index / count)).astype(np.uint8)

  result, thumbnails = long_run.measure(fade, clips, 30.0, reader, window_s=5.0)
  figures = result['figures']
  assert figures['frames'] == 750 and len(thumbnails) == 3
  assert figures['lab_shift_last'] > 5.0
  assert len(result['curves']['identity']['values']) == 6


def test_looped_speech_has_the_asked_length(clips):
  waveform, mouth = long_run.looped_speech(clips, 7.0)
  assert len(waveform) == 7 * 16000 and len(mouth) == 175
  np.testing.assert_array_equal(mouth[120:160], clips[0].tracks['mouth'])


def test_reports_are_complete_files(tmp_path, reader, clips):
  results, scores = protocol.run({}, clips, reader)
  figures = results['gt']['figures'] | {'frames_per_s': float('nan')}
  text = report.table({'gt': figures})
  assert '| PSNR where nothing moves [dB] | >= 27 | 100 |' in text
  assert 'speed' not in text
  path = report.write_json(tmp_path / 'a/metrics.json', {'gt': figures})
  assert json.loads(path.read_text())['gt']['frames_per_s'] is None
  plot = report.plot_lines(tmp_path / 'a.png', report.clip_panels(results))
  assert Image.open(plot).size[0] > 500
  sheet = report.contact_sheet(
      tmp_path / 's.png', [s.thumbnails for s in scores['gt']]
  )
  assert Image.open(sheet).size == (3 * 32, 3 * 32)
  assert not list(tmp_path.rglob('.*.part'))
