"""Lab colour transfer: known colours, exact statistics, finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.generate import color


@pytest.mark.parametrize(
    'rgb, lab',
    [
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((0.01, 0.01, 0.01), (0.70, 0, 0)),
    ],
)
def test_known_colours_both_ways(rgb, lab):
  rgb = jnp.asarray(rgb, jnp.float32)
  found = color.rgb_to_lab(rgb)
  np.testing.assert_allclose(found, lab, atol=0.02)
  np.testing.assert_allclose(color.lab_to_rgb(found), rgb, atol=1e-5)


def images(seed, low, high, shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(low, high, shape), jnp.float32)


def statistics(picture):
  lab = color.rgb_to_lab(0.5 * picture + 0.5)
  return jnp.concatenate([lab.mean((-3, -2)), lab.std((-3, -2))], -1)


def test_full_strength_gives_the_statistics_of_the_reference():
  video = images(0, -0.5, 0.1, (2, 3, 16, 16, 3))
  reference = images(1, -0.3, 0.3, (2, 16, 16, 3))
  found = statistics(color.transfer(video, reference, 1.0))
  wanted = statistics(reference)[:, None]
  np.testing.assert_allclose(found, found * 0 + wanted, atol=0.05)


def test_strength_zero_changes_nothing_and_half_is_halfway():
  video = images(0, -1, 1, (1, 2, 8, 8, 3))
  reference = images(1, -0.5, 0.5, (1, 8, 8, 3))
  none, half, full = (
      color.transfer(video, reference, s) for s in (0.0, 0.5, 1.0)
  )
  np.testing.assert_allclose(none, video, atol=1e-6)
  np.testing.assert_allclose(half, (none + full) / 2, atol=1e-6)


@pytest.mark.parametrize('level', [-1.0, 0.0, 1.0])
def test_gradients_are_finite_on_flat_black_and_white(level):
  reference = images(1, -0.5, 0.5, (1, 8, 8, 3))
  gradient = jax.grad(lambda v: color.transfer(v, reference, 1.0).sum())
  found = gradient(jnp.full((1, 1, 8, 8, 3), level))
  assert np.isfinite(np.asarray(found)).all()
