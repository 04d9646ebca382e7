"""Safetensors one tensor at a time: as the library reads and writes them."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import tensor_file

TENSORS = {
    'b': np.arange(6, dtype=np.float32).reshape(2, 3).T,  # Not contiguous.
    'a': np.arange(3, dtype=np.float16),
    'half': np.arange(4, dtype=ml_dtypes.bfloat16).reshape(2, 2),
    'count': np.array(7, np.int64),
    'empty': np.zeros((0, 3), np.float32),
}


def same(found, wanted):
  assert found.keys() == wanted.keys()
  for key, value in wanted.items():
    array = np.asarray(found[key])
    assert (array.dtype, array.shape) == (value.dtype, value.shape)
    assert array.tobytes() == value.tobytes()


def test_written_files_are_read_again_bit_for_bit(tmp_path):
  path = tmp_path / 'x.safetensors'
  total = tensor_file.write(path, TENSORS, {'format': 'pt'})
  same(tensor_file.open_file(str(path)), TENSORS)
  assert tensor_file.digest(str(path)) == total
  assert [p.name for p in tmp_path.iterdir()] == ['x.safetensors']


def test_the_library_reads_what_is_written(tmp_path):
  path = tmp_path / 'x.safetensors'
  plain = {k: v for k, v in TENSORS.items() if k != 'half'}
  tensor_file.write(path, plain, {'format': 'pt'})
  found = safetensors.numpy.load_file(path)
  for key, value in plain.items():
    np.testing.assert_array_equal(found[key], value)
  with safetensors.safe_open(path, 'np') as file:
    assert file.metadata() == {'format': 'pt'}


def test_what_the_library_writes_is_read(tmp_path):
  path = tmp_path / 'x.safetensors'
  plain = {k: np.ascontiguousarray(v) for k, v in TENSORS.items()
           if k != 'half'}
  safetensors.numpy.save_file(plain, path)
  same(tensor_file.open_file(str(path)), plain)


def test_large_tensors_are_brought_into_order_piece_by_piece(
    tmp_path, monkeypatch
):
  monkeypatch.setattr(tensor_file, '_BLOCK', 10)
  value = np.arange(7 * 5 * 4).reshape(7, 5, 4).astype(np.float32)
  wanted = {'x': value.transpose(1, 2, 0), 'y': value.transpose(2, 0, 1)}
  tensor_file.write(tmp_path / 'x', wanted)
  same(tensor_file.open_file(str(tmp_path / 'x')), wanted)


def test_a_failure_while_reading_leaves_no_file(tmp_path):
  def fail():
    raise ValueError('no values')

  broken = tensor_file.Tensor((2,), np.dtype(np.float32), fail)
  with pytest.raises(ValueError, match='no values'):
    tensor_file.write(tmp_path / 'x', {'a': np.zeros(3), 'b': broken})
  assert not list(tmp_path.iterdir())


def file_with(path, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data)
  return str(path)


def entry(dtype='F32', shape=(2,), span=(0, 8)):
  return dict(dtype=dtype, shape=list(shape), data_offsets=list(span))


@pytest.mark.parametrize('header, data, word', [
    (b'', b'', 'header'),
    (b'\xff\xfe', b'', 'header'),
    (b'[1]', b'', 'header'),
    (b'[' * 100_000, b'', 'header'),
    ({'x': 3}, b'', 'header'),
    ({'x': {'dtype': 'F32'}}, b'', 'header'),
    ({'x': entry(span=(-8, 0))}, b'', 'header'),
    ({'x': entry(shape=(-1, -2))}, bytes(8), 'header'),
    ({'x': entry(shape=(2.0,))}, bytes(8), 'header'),
    ({'x': entry(shape=(3,))}, bytes(8), 'x [3] is at bytes [0, 8]'),
    ({'x': entry(span=(8, 16))}, bytes(16), 'x [2] is at bytes [8, 16]'),
    ({'x': entry(), 'y': entry()}, bytes(8), 'damaged'),
    ({'x': entry()}, bytes(7), '76 bytes; expected 77'),
    ({'x': entry()}, bytes(9), 'truncated'),
    ({'x': entry('F8_E4M3', span=(0, 2))}, bytes(2), 'type F8_E4M3'),
], ids=lambda v: str(v)[:40])
def test_damaged_files_are_one_line(tmp_path, header, data, word):
  path = file_with(tmp_path / 'x.safetensors', header, data)
  with pytest.raises(ValueError) as error:
    tensor_file.open_file(path)
  assert word in str(error.value) and '\n' not in str(error.value)
  assert path in str(error.value)


def test_any_flipped_byte_of_the_header_is_harmless(tmp_path):
  path = tmp_path / 'x.safetensors'
  tensor_file.write(path, TENSORS)
  content = path.read_bytes()
  end = 8 + int.from_bytes(content[:8], 'little')
  rng = np.random.default_rng(0)
  for _ in range(300):
    damaged = bytearray(content)
    for place in rng.integers(0, end, rng.integers(1, 4)):
      damaged[place] = rng.integers(256)
    path.write_bytes(damaged)
    try:
      found = tensor_file.open_file(str(path))
    except ValueError as error:
      assert '\n' not in str(error)
      continue
    for tensor in found.values():  # A renamed tensor, for instance.
      np.asarray(tensor)
