"""Files are whole or not there."""

import os

import pytest

from asymtalker_jax import files


def test_a_file_is_written_and_nothing_else(tmp_path):
  path = files.write(tmp_path / 'x.bin', b'new')
  files.write(path, b'newer')
  assert path.read_bytes() == b'newer'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('step', ['write', 'replace'])
def test_a_failure_names_the_file_and_keeps_the_older_one(
    tmp_path, monkeypatch, step
):
  path = files.write(tmp_path / 'x.bin', b'older')

  def full(*_):
    raise OSError(28, os.strerror(28))
  if step == 'write':
    monkeypatch.setattr(files.pathlib.Path, 'write_bytes', full)
  else:
    monkeypatch.setattr(files.os, 'replace', full)
  with pytest.raises(OSError, match='x.bin: cannot be written .No space left'):
    files.write(path, b'new')
  assert path.read_bytes() == b'older'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    'path, word', [('gone/x.json', 'there is no folder'), ('.', 'is a folder')]
)
def test_places_that_cannot_be_written(tmp_path, path, word):
  with pytest.raises((ValueError, OSError), match=f'--json=.*{word}'):
    files.check_place(str(tmp_path / path), '--json=')
  files.check_place(str(tmp_path / 'x.json'))
