import numpy as np
import pytest

from asymtalker_jax.models import rope


@pytest.mark.parametrize(
    'head_dim, parts',
    [(128, (44, 42, 42)), (24, (8, 8, 8)), (64, (24, 20, 20))],
)
def test_head_is_split_as_in_wan(head_dim, parts):
  assert rope.split(head_dim) == parts


@pytest.mark.parametrize('head_dim', [7, 4])
def test_head_that_cannot_be_split_is_refused(head_dim):
  with pytest.raises(ValueError, match=str(head_dim)):
    rope.split(head_dim)


def test_scores_depend_on_the_relative_position_only():
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(2, 1, 1, 1, 24)).astype(np.float32)
  cos, sin = (x.reshape(5, 6, 7, -1) for x in rope.rotation(24, (5, 6, 7)))

  def score(at_q, at_k):
    q_turned = rope.rotate(q, cos[at_q][None], sin[at_q][None])
    k_turned = rope.rotate(k, cos[at_k][None], sin[at_k][None])
    return float((q_turned * k_turned).sum())

  same = score((0, 1, 2), (2, 3, 5)), score((2, 2, 3), (4, 4, 6))
  np.testing.assert_allclose(*same, rtol=1e-5)
  for other in ((3, 3, 5), (2, 4, 5), (2, 3, 6)):
    assert abs(score((0, 1, 2), other) - same[0]) > 1e-3


def test_first_token_is_not_rotated():
  x = np.random.default_rng(0).normal(size=(1, 8, 2, 12)).astype(np.float32)
  turned = np.asarray(rope.rotate(x, *rope.rotation(12, (2, 2, 2))))
  np.testing.assert_array_equal(turned[:, 0], x[:, 0])
  np.testing.assert_allclose(
      np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
  )
