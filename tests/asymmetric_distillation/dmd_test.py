import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests import golden_file

from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import critic, dmd
from asymtalker_jax.flow import path

B, T, H, W, C = 2, 3, 2, 2, 4


def view(slots=1, seed=0):
  shape = (B, T, H, W, C)
  return types.Conditioning(
      reference=jnp.zeros(shape),
      audio=jnp.zeros((B, 5, 5, 1, 1)),
      continuity=jax.random.normal(jax.random.key(seed), shape),
      mask=jnp.broadcast_to((jnp.arange(T) < slots).astype(float), (B, T)),
  )


def frames_first(x):
  """Reference layout [B, F, C, H, W] -> [B, T, H, W, C]."""
  return np.moveaxis(x, 2, -1)


@pytest.mark.parametrize('masked', (False, True))
def test_gradient_normaliser_and_loss_equal_self_forcing(masked):
  golden = golden_file.load('dmd')
  t = golden.tensors
  cond, uncond = t['out.x0_real_cond'], t['out.x0_real_uncond']
  guidance = golden.meta['config']['guidance']
  real = frames_first(cond + guidance * (cond - uncond))
  fake = frames_first(t['out.x0_fake_cond'])
  x0 = frames_first(t['in.image'])
  clean = np.zeros(x0.shape[:2])
  grad, normaliser = dmd.gradient(x0, real, fake, clean)
  golden.check('normalizer', normaliser.reshape(-1, 1, 1, 1, 1))
  golden.check('grad', np.moveaxis(grad, -1, 2))
  if masked:
    clean[:, 0] = 1  # The reference masks the loss, not the normaliser.
  loss = 0.5 * np.mean(np.square(grad)[:, int(masked) :])
  golden.check('loss_masked' if masked else 'loss', [loss])


def test_gradient_of_the_loss_is_the_dmd_gradient_per_element():
  x0 = jax.random.normal(jax.random.key(3), (B, T, H, W, C))
  c = view(slots=1)
  real = lambda x, t, c: x * 0.3 + 0.1
  fake = lambda x, t, c: x * 0.2 - 0.4

  def loss(x0):
    return dmd.loss(
        x0, x0, (real, c), (fake, c), jax.random.key(1), shift=5.0,
        regression_weight=0.0,
    )[0]

  got = jax.grad(loss)(x0)
  noisy, sigma, _ = dmd.noisy_score_input(x0, c, jax.random.key(1), 5.0)
  estimate = lambda v: path.predict_x0(noisy, v(noisy, None, c), sigma)
  want, _ = dmd.gradient(x0, estimate(real), estimate(fake), c.mask)
  count = B * (T - 1) * H * W * C
  np.testing.assert_allclose(got, want / count, rtol=1e-4, atol=1e-7)
  np.testing.assert_array_equal(got[:, 0], 0.0)


def test_gradient_is_zero_when_fake_equals_real():
  x0 = jax.random.normal(jax.random.key(3), (B, T, H, W, C))
  score = lambda x, t, c: x * 0.3 + 0.1
  value, logs = dmd.loss(
      x0, x0 + 1.0, (score, view()), (score, view()), jax.random.key(1),
      shift=5.0, regression_weight=0.25,
  )
  assert logs['dmd'] == 0.0
  np.testing.assert_allclose(value, 0.25, rtol=1e-5)
  assert logs['dmd_to_regression'] == 0.0


def test_scores_see_clean_continuity_and_the_same_noise():
  x0 = jax.random.normal(jax.random.key(3), (B, T, H, W, C))
  a, b = view(seed=1), view(seed=2)
  noisy_a, sigma_a, _ = dmd.noisy_score_input(x0, a, jax.random.key(1), 5.0)
  noisy_b, sigma_b, _ = dmd.noisy_score_input(x0, b, jax.random.key(1), 5.0)
  np.testing.assert_array_equal(noisy_a[:, 0], a.continuity[:, 0])
  np.testing.assert_array_equal(noisy_b[:, 0], b.continuity[:, 0])
  np.testing.assert_array_equal(noisy_a[:, 1:], noisy_b[:, 1:])
  np.testing.assert_array_equal(sigma_a, sigma_b)


def test_score_noise_levels_stay_within_the_published_clamp():
  sigma = path.sample_sigma(jax.random.key(0), 20000, 5.0, 0.02, 0.98)
  assert sigma.min() == pytest.approx(0.02) and sigma.max() <= 0.98
  # 9.2 % of draws sit on the upper clamp.
  assert np.mean(sigma == sigma.max()) == pytest.approx(0.092, abs=0.006)


def test_critic_loss_is_zero_for_the_exact_velocity_and_ignores_clean_slots():
  x0 = jax.random.normal(jax.random.key(3), (B, T, H, W, C))
  c = view(slots=1)

  def exact(x, t, _):
    v = (x - x0) / path.expand(t / 1000.0, x.ndim)
    return v.at[:, 0].set(99.0)

  assert critic.loss(exact, x0, c, jax.random.key(0), shift=5.0) < 1e-9
  zero = lambda x, t, c: jnp.zeros_like(x)
  assert critic.loss(zero, x0, c, jax.random.key(0), shift=5.0) > 0.5


def test_a_broken_teacher_is_not_hidden():
  x0 = jnp.zeros((B, T, H, W, C))
  broken = lambda x, t, c: jnp.full_like(x, jnp.nan)
  value, _ = dmd.loss(
      x0, x0, (broken, view()), (broken, view()), jax.random.key(1), shift=5.0,
      regression_weight=0.0,
  )
  assert np.isnan(value)
