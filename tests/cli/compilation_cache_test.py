"""Where compiled programs are kept."""

import jax
import pytest

from asymtalker_jax.cli import compilation_cache

NAMES = (
    'jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'
)


@pytest.fixture(autouse=True)
def no_folder():
  """JAX without a folder for the time of a test."""
  old = {name: getattr(jax.config, name) for name in NAMES}
  jax.config.update(NAMES[0], None)
  yield
  for name, value in old.items():
    jax.config.update(name, value)


def test_every_kind_of_processor_has_its_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('ASYMTALKER_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(compilation_cache, '_processor', lambda: 'z80')
  compilation_cache.enable()
  expected = tmp_path / 'cache' / f'jax-{jax.__version__}-z80'
  assert jax.config.jax_compilation_cache_dir == str(expected)
  assert expected.is_dir()


def test_an_empty_name_switches_the_cache_off(monkeypatch):
  monkeypatch.setenv('ASYMTALKER_CACHE', '')
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir is None


def test_the_folder_of_jax_holds(tmp_path, monkeypatch):
  jax.config.update(NAMES[0], str(tmp_path))
  monkeypatch.setenv('ASYMTALKER_CACHE', str(tmp_path / 'cache'))
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_costs_only_time(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('ASYMTALKER_CACHE', str(tmp_path / 'file' / 'cache'))
  compilation_cache.enable()
  assert jax.config.jax_compilation_cache_dir is None
