"""Encoded datasets: exact, resumable, clear when damaged."""

import json
import os

import numpy as np
import pytest

from asymtalker_jax.inputs import encoded

META = {'variant': 'tiny'}


def examples(start):
  for i in range(start, 7):
    yield {
        'latents': np.full((2, 3), i, np.float16),
        'identity': np.asarray(i, np.int64),
    }


def write(folder, make=examples, count=7, meta=META, **options):
  return encoded.write_encoded(
      str(folder), 'train', make, count, meta=meta, examples_per_shard=3,
      **options,
  )


def test_examples_come_back_exactly_in_any_order(tmp_path):
  assert write(tmp_path) == 3
  dataset = encoded.open_encoded(str(tmp_path), 'train')
  assert len(dataset) == 7 and dataset.meta == META
  assert dataset.shapes == {'latents': (2, 3), 'identity': ()}
  for i in (6, 0, 3, -1):
    example = dataset[i]
    assert example['latents'].dtype == np.float16
    np.testing.assert_array_equal(example['latents'], i % 7)
    assert example['identity'] == i % 7
  with pytest.raises(IndexError):
    dataset[7]


def test_interrupted_writing_goes_on_with_the_shard_it_was_at(tmp_path):
  starts = []

  def dies(start):
    starts.append(start)
    for example in examples(start):
      if example['identity'] == 4:
        raise KeyboardInterrupt
      yield example

  with pytest.raises(KeyboardInterrupt):
    write(tmp_path, dies)
  assert not [n for n in os.listdir(tmp_path) if n.endswith('.tmp')]
  with pytest.raises(FileNotFoundError, match='2 of 3 shards are missing'):
    encoded.open_encoded(str(tmp_path), 'train')
  assert write(tmp_path) == 2 and starts == [0, 3]
  dataset = encoded.open_encoded(str(tmp_path), 'train')
  assert [int(e['identity']) for e in dataset] == list(range(7))


def test_workers_share_the_shards(tmp_path):
  assert [write(tmp_path, worker=w, workers=2) for w in (1, 0)] == [1, 2]
  assert write(tmp_path) == 0
  assert len(encoded.open_encoded(str(tmp_path), 'train')) == 7
  with pytest.raises(ValueError, match='worker=2 of workers=2'):
    write(tmp_path, worker=2, workers=2)


def test_folder_of_other_settings_is_not_continued(tmp_path):
  write(tmp_path)
  with pytest.raises(ValueError, match='other meta'):
    write(tmp_path, meta={'variant': 'pro'})


def test_examples_of_unequal_shapes_are_refused(tmp_path):
  def ragged(start):
    for i in range(start, 7):
      yield {'latents': np.zeros(i + 1, np.float16)}

  with pytest.raises(ValueError, match='example 1 has'):
    write(tmp_path, ragged)
  assert not list(tmp_path.glob('*.array_record'))


def test_too_few_examples_are_refused(tmp_path):
  with pytest.raises(ValueError, match='only 1 examples came, expected 2'):
    write(tmp_path, count=8)


def test_damaged_and_missing_data_is_named(tmp_path):
  write(tmp_path)
  with pytest.raises(FileNotFoundError, match="'test', found ..train"):
    encoded.open_encoded(str(tmp_path), 'test')
  first = sorted(tmp_path.glob('*.array_record'))[0]
  first.write_bytes(first.read_bytes()[:40])
  with pytest.raises(ValueError, match='cannot be read'):
    encoded.open_encoded(str(tmp_path), 'train')[1]
  index = tmp_path / 'train.json'
  index.write_text(json.dumps(json.loads(index.read_text()) | {'format': 9}))
  with pytest.raises(ValueError, match='format 9, expected 1'):
    encoded.open_encoded(str(tmp_path), 'train')
