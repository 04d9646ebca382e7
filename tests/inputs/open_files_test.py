"""As many open files as shards need, or one line."""

import resource

import pytest

from asymtalker_jax.inputs import open_files


def test_the_limit_is_raised_as_far_as_the_system_lets(monkeypatch):
  limits = {'now': (64, 1000)}
  monkeypatch.setattr(resource, 'getrlimit', lambda kind: limits['now'])
  monkeypatch.setattr(
      resource, 'setrlimit', lambda kind, pair: limits.update(now=pair)
  )
  open_files.allow(700, 'x')
  assert limits['now'] == (1000, 1000)
  with pytest.raises(ValueError, match='x: 800 shards.* lets .* open 1000 '):
    open_files.allow(800, 'x')
