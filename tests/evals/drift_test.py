"""Drift: colours and trends with known answers."""

import numpy as np
import pytest

from asymtalker_jax.evals import drift


def trend(curve):
  """Over windows of 10 s."""
  return drift.trend(curve, drift.edges(len(curve), 250))


def test_lab_of_known_colours():
  frame = np.array(
      [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8
  )
  expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2], [32.3, 79.19, -107.86]]
  np.testing.assert_allclose(drift.lab(frame), expected, atol=0.02)


def test_colour_shift_of_a_brighter_frame():
  grey = np.full((8, 8, 3), 119, np.uint8)
  brighter = np.full((8, 8, 3), 124, np.uint8)
  colours = drift.mean_colours([grey, brighter])
  shift = drift.lab_shift(colours, colours[0])
  np.testing.assert_allclose(shift, [0.0, 1.96], atol=0.05)


def test_slope_of_a_line_is_per_minute():
  seconds = np.arange(25 * 600) / 25
  found = trend(0.9 - 0.01 * seconds / 60)
  assert len(found.values) == 60
  np.testing.assert_allclose(found.slope, -0.01, rtol=1e-6)
  np.testing.assert_allclose(found.slope_interval, 0.0, atol=1e-9)
  np.testing.assert_allclose(found.first, 0.9 - 0.01 * 4.98 / 60, rtol=1e-6)


def test_interval_covers_a_level_curve():
  noise = np.random.default_rng(0).normal(0, 0.1, 25 * 300)
  found = trend(1.0 + noise)
  assert abs(found.slope) < found.slope_interval < 0.02


def test_short_remainder_joins_the_last_window():
  assert list(drift.edges(25 * 24, 250)) == [0, 250, 600]
  assert list(drift.edges(25 * 26, 250)) == [0, 250, 500, 650]
  assert list(drift.edges(30, 250)) == [0, 30]


def test_trend_of_one_window_is_not_known():
  found = trend(np.ones(50))
  assert np.isnan(found.slope) and found.slope_interval == np.inf


def test_windows_without_a_value_are_left_out_of_the_slope():
  seconds = np.arange(25 * 100) / 25
  curve = 1.0 - 0.6 * seconds / 60
  curve[250:500] = np.nan
  found = trend(curve)
  np.testing.assert_allclose(found.slope, -0.6, rtol=1e-9)
  assert np.isnan(found.values[1]) and found.last < found.first
  curve[:2250] = np.nan
  assert np.isnan(trend(curve).slope)


def test_time_to_failure_is_the_start_of_the_first_window_past_the_limit():
  seconds = np.arange(25 * 100) / 25
  curve = np.where(seconds < 60, 0.9, 0.5)
  found = trend(curve)
  assert drift.time_to_failure(found, drift.Limit(change=0.1)) == 60.0
  assert drift.time_to_failure(found, drift.Limit(change=0.5)) is None
  rising = drift.Limit(change=0.3, relative=False, rising=True)
  assert drift.time_to_failure(trend(1 - curve), rising) == 60.0
  assert drift.time_to_failure(found, rising) is None


def test_a_failure_in_a_last_window_that_is_longer_begins_with_it():
  seconds = np.arange(25 * 124) / 25  # The last window has 14 s.
  found = trend(np.where(seconds < 110, 0.9, 0.5))
  assert drift.time_to_failure(found, drift.Limit(change=0.1)) == 110.0


def test_interval_is_wider_where_windows_remember():
  rng = np.random.default_rng(0)
  steps = rng.normal(0, 0.1, 60)
  walk = np.zeros(60)
  for i in range(1, 60):
    walk[i] = 0.8 * walk[i - 1] + steps[i]
  kept = trend(np.repeat(walk, 250))
  mixed = trend(np.repeat(rng.permutation(walk), 250))
  assert kept.slope_interval > 1.8 * mixed.slope_interval


def curve_of(levels):
  """Per-frame curve of windows of 10 s."""
  return np.repeat(levels, 250)


def test_interval_of_known_residuals():
  # Orthogonal to every line; of power 8, products of neighbours sum to -1.
  rest = np.array([1.0, -1, -1, 1, 1, -1, -1, 1])
  assert rest[1:] @ rest[:-1] == -1.0
  # r = (8 * -1/8 + 2) / 4 = 1/4, n = 8 * 3/5 = 4.8, degrees 2.8.
  assert drift._degrees(rest) == pytest.approx(2.8)
  # t(0.975; 2.8) = 3.3164; windows are 1/6 min apart: sum of squares 42 / 36.
  found = trend(curve_of(3.0 + rest))
  assert found.slope == pytest.approx(0.0, abs=1e-12)
  expected = 3.3164 * np.sqrt(8 / 2.8 / (42 / 36))
  assert found.slope_interval == pytest.approx(expected, rel=1e-3)


def test_few_windows_have_the_interval_of_students_t():
  # Nothing is known of memory: 12.7062 for one degree of freedom.
  found = trend(curve_of([1.0, -2.0, 1.0]))
  expected = 12.7062 * np.sqrt(6 / 1 / (2 / 36))
  assert found.slope_interval == pytest.approx(expected, rel=1e-4)
  # More residuals that turn sign each time lose no degree: 10 - 2.
  assert drift._degrees(np.array([1.0, -1] * 5)) == 8.0
  assert drift._degrees(np.ones(10)) == 2.0


def coverage(count, rho, draws=500):
  """Share of the intervals that hold the slope, 0.4 per minute, of processes
  whose neighbours correlate by rho."""
  rng = np.random.default_rng(0)
  steps = rng.normal(0, np.sqrt(1 - rho * rho), (draws, count))
  rows = steps / np.sqrt(1 - rho * rho)
  for i in range(1, count):
    rows[:, i] = rho * rows[:, i - 1] + steps[:, i]
  rows += 0.4 * np.arange(count) / 6
  ends = np.arange(count + 1)
  found = [drift.trend(row, ends, fps=0.1) for row in rows]
  return np.mean([abs(t.slope - 0.4) <= t.slope_interval for t in found])


@pytest.mark.parametrize('count, rho, least, most', [
    (12, 0.0, 0.94, 0.985), (12, 0.3, 0.92, 0.98), (12, 0.5, 0.89, 0.95),
    (12, 0.8, 0.86, 0.93), (60, 0.0, 0.93, 0.98), (60, 0.5, 0.92, 0.97),
    (60, 0.8, 0.91, 0.97),
])  # pyformat: disable
def test_intervals_hold_the_slope_as_often_as_is_said(count, rho, least, most):
  assert least <= coverage(count, rho) <= most
