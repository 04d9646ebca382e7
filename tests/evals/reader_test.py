"""The puppet reader: file format, batching, the bundled weights."""

import json
import os

import jax
import numpy as np
import pytest

from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.evals import reader_validation
from asymtalker_jax.models.metric import puppet_reader

MODEL = dict(
    tracks=['mouth', 'yaw'], embedding=8, widths=[8, 8, 8], features=8,
    size=32, track_mean=[0.5, 0.0], track_std=[0.1, 2.0],
)


@pytest.fixture(scope='module')
def params():
  return puppet_reader.init(MODEL, jax.random.key(0))


def _frames(count: int) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_batches_do_not_change_what_is_read(params):
  reader = reader_lib.Reader(MODEL, params)
  frames = _frames(2 * reader_lib.BATCH + 3)
  whole = reader.read(frames)
  last = reader.read(frames[-3:])
  assert whole.embedding.shape == (67, 8)
  np.testing.assert_allclose(
      whole.tracks['mouth'][-3:], last.tracks['mouth'], atol=1e-5
  )
  norms = np.linalg.norm(whole.embedding, axis=-1)
  np.testing.assert_allclose(norms, 1.0, atol=1e-5)


def test_tracks_come_back_in_the_units_of_the_dataset(params):
  frames = _frames(4)
  wide = dict(MODEL, track_std=[0.2, 4.0])
  one = reader_lib.Reader(MODEL, params).read(frames).tracks['mouth'] - 0.5
  two = reader_lib.Reader(wide, params).read(frames).tracks['mouth'] - 0.5
  np.testing.assert_allclose(two, 2 * one, rtol=1e-5)


def test_saved_reader_reads_the_same(tmp_path, params):
  reader_lib.save(tmp_path, MODEL, params)
  again = reader_lib.load(tmp_path).read(_frames(3))
  direct = reader_lib.Reader(MODEL, params).read(_frames(3))
  np.testing.assert_allclose(again.embedding, direct.embedding, atol=5e-3)
  assert sorted(os.listdir(tmp_path)) == ['reader.json', 'reader.safetensors']


def test_unfit_or_missing_weights_are_refused(tmp_path, params):
  with pytest.raises(FileNotFoundError, match='reader.json'):
    reader_lib.load(tmp_path)
  reader_lib.save(tmp_path, MODEL, params)
  wider = json.dumps(dict(MODEL, features=16))
  (tmp_path / 'reader.json').write_text(wider)
  with pytest.raises(ValueError, match='does not fit'):
    reader_lib.load(tmp_path)
  (tmp_path / 'reader.safetensors').write_bytes(b'no tensors')
  with pytest.raises(ValueError, match='reader.safetensors'):
    reader_lib.load(tmp_path)


def test_frames_of_another_size_are_resized(params):
  reader = reader_lib.Reader(MODEL, params)
  small = np.repeat(_frames(1)[:, :1, :1], 16, axis=1).repeat(16, axis=2)
  large = small.repeat(4, axis=1).repeat(4, axis=2)
  np.testing.assert_allclose(
      reader.read(small).embedding, reader.read(large).embedding, atol=1e-4
  )


def test_frames_that_cannot_be_read_are_refused(params):
  reader = reader_lib.Reader(MODEL, params)
  with pytest.raises(ValueError, match='square'):
    reader.read(np.zeros((2, 64, 32, 3), np.uint8))
  with pytest.raises(ValueError, match='0 frames'):
    reader.read([])


def test_verification_of_separable_and_of_equal_people():
  basis = np.eye(4)[:, None].repeat(3, axis=1)
  perfect = reader_validation.verify_identities(basis)
  assert perfect['auc'] == 1.0 and perfect['top1'] == 1.0
  assert perfect['same'] == 1.0 and perfect['different'] == 0.0
  alike = np.ones((4, 3, 4)) / 2
  assert reader_validation.verify_identities(alike)['auc'] == 0.5


def test_bundled_reader_is_small_and_loads():
  weights = reader_lib.BUNDLED / 'reader.safetensors'
  assert weights.stat().st_size < 500_000
  reader = reader_lib.load()
  size = reader.config['size']
  reading = reader.read(np.zeros((1, size, size, 3), np.uint8))
  assert {'mouth', 'yaw', 'pitch'} <= set(reading.tracks)
