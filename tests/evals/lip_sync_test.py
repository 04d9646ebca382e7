"""Lip-sync of signals whose lag and correlation are known."""

import numpy as np
import pytest

from asymtalker_jax.evals import lip_sync


def _speech(frames: int, seed: int = 0) -> np.ndarray:
  noise = np.random.default_rng(seed).normal(size=frames + 4)
  return np.convolve(noise, np.ones(5) / 5, mode='valid')


def test_equal_signals_correlate_fully_at_lag_zero():
  mouth = _speech(200)
  result = lip_sync.measure(3.0 * mouth + 1.0, mouth)
  assert result.best_lag == 0
  np.testing.assert_allclose(result.correlation, 1.0, atol=1e-9)


@pytest.mark.parametrize('lag', [-8, -3, 2, 8])
def test_late_mouth_has_its_delay_as_best_lag(lag):
  mouth = _speech(220)
  result = lip_sync.measure(mouth[10 - lag : 210 - lag], mouth[10:210])
  assert result.best_lag == lag
  np.testing.assert_allclose(result.best, 1.0, atol=1e-9)


def test_opposite_and_still_mouths():
  mouth = _speech(200)
  np.testing.assert_allclose(lip_sync.correlation(-mouth, mouth), -1.0)
  assert lip_sync.correlation(np.ones(200), mouth) == 0.0


def test_mean_over_videos_is_the_mean_curve():
  mouth = _speech(200)
  good = lip_sync.measure(mouth, mouth)
  bad = lip_sync.measure(-mouth, mouth)
  assert abs(lip_sync.mean([good, bad]).correlation) < 1e-9


def test_signals_of_other_lengths_are_refused():
  with pytest.raises(ValueError, match='200 and 199'):
    lip_sync.measure(np.ones(200), np.ones(199))
  with pytest.raises(ValueError, match='at least 32'):
    lip_sync.measure(np.ones(20), np.ones(20))
