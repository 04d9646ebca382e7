"""Real media beside the checkout, where it is there."""

import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'shared' / 'media'


def path(name: str) -> str:
  """A file of ../shared/media; skips the test where it is absent."""
  file = FOLDER / name
  if not file.exists():
    pytest.skip(f'{file} is not there')
  return str(file)
