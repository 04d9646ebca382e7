"""Fréchet distance and KID: known answers and the golden reference."""

import numpy as np
import pytest

from asymtalker_jax.evals import frechet
from tests import golden_file


@pytest.fixture(scope='module')
def golden():
  return golden_file.load('frechet')


@pytest.fixture(scope='module')
def first(golden):
  return golden.tensors['in.feat1']


@pytest.fixture(scope='module')
def second(golden):
  return golden.tensors['in.feat2']


def _moments(features, batch=37):
  moments = frechet.Moments(features.shape[1])
  for start in range(0, len(features), batch):
    moments.update(features[start : start + batch])
  return moments


def test_streaming_moments_equal_the_reference(golden, first):
  moments = _moments(first)
  golden.check('mu1', moments.mean)
  golden.check('cov1', moments.covariance)


def test_moments_survive_a_large_mean():
  features = np.random.default_rng(0).normal(size=(500, 3))
  near, far = _moments(features), _moments(features + 1e6)
  np.testing.assert_allclose(near.covariance, far.covariance, rtol=1e-6)


def test_distance_equals_the_reference(golden, first, second):
  distance = frechet.distance(_moments(first), _moments(second))
  golden.check('frechet', [distance])


def test_distance_without_full_rank_equals_the_reference(
    golden, first, second
):
  rows = golden.meta['config']['rank1']
  distance = frechet.distance(
      _moments(first[:rows]), _moments(second[:rows])
  )
  golden.check('frechet_rank_deficient', [distance])


def test_identical_sets_have_distance_zero(golden, first):
  distance = frechet.distance(_moments(first), _moments(first, batch=11))
  golden.check('frechet_self', [distance])


def test_shifted_set_has_the_squared_shift_as_distance():
  features = np.random.default_rng(1).normal(size=(300, 4))
  shift = np.array([1.0, 0.0, -2.0, 0.5])
  np.testing.assert_allclose(
      frechet.distance(_moments(features), _moments(features + shift)),
      shift @ shift,
      rtol=1e-9,
  )


def test_ground_truth_that_grew_is_compared_with_as_it_is_now(first, second):
  truth, other = _moments(first[:100]), _moments(second)
  frechet.distance(other, truth)
  truth.update(first[100:])
  np.testing.assert_allclose(
      frechet.distance(other, truth), frechet.distance(_moments(first), other)
  )


def test_kid_equals_the_reference(golden, first, second):
  golden.check('kid_unbiased', [frechet.kid(first, second)])
  golden.check(
      'kid_unbiased_first50', [frechet.kid(first[:50], second[:50])]
  )


def test_too_few_features_are_refused():
  with pytest.raises(ValueError, match='at least 2'):
    frechet.kid(np.ones((1, 3)), np.ones((5, 3)))
  with pytest.raises(ValueError, match='at least 2'):
    _ = _moments(np.ones((1, 3))).covariance
