import numpy as np
import pytest
from tests import golden_file

from asymtalker_jax.flow import losses, path


@pytest.fixture(scope='module')
def golden():
  return golden_file.load('scheduler')


@pytest.mark.parametrize('steps', ([1000, 750, 500, 250], [1000, 500]))
def test_sampler_noise_levels_equal_flashhead(golden, steps):
  golden.check(
      f'flashhead_timesteps_{len(steps)}steps',
      1000 * path.shifted_sigmas(steps, 5.0),
  )


def test_teacher_noise_levels_equal_flashhead(golden):
  golden.check(
      'flashhead_timesteps_20steps',
      1000 * path.shifted_sigmas(np.linspace(1000, 1, 20), 5.0),
  )


def test_noise_target_and_clean_estimate_equal_self_forcing(golden):
  t = golden.tensors
  grid = t['out.shift5.timesteps']
  nearest = grid[np.abs(grid[None] - t['in.t'][:, None]).argmin(1)] / 1000
  noisy = path.add_noise(t['in.x0'], t['in.noise'], nearest)
  golden.check('shift5.add_noise', noisy)
  golden.check(
      'shift5.training_target', path.velocity_target(t['in.x0'], t['in.noise'])
  )
  golden.check(
      'shift5.flow_to_x0', path.predict_x0(t['in.xt'], t['in.flow'], nearest)
  )


@pytest.mark.parametrize('k', (5, 8))
def test_bell_weight_equals_self_forcing(golden, k):
  sigmas = golden.tensors[f'out.shift{k}.sigmas']
  golden.check(
      f'shift{k}.training_weights_table',
      losses.loss_weight(sigmas, 'bell', float(k)),
  )


def test_clean_estimate_inverts_the_path():
  x0, noise = np.random.default_rng(0).normal(size=(2, 3, 2, 4))
  sigma = np.array([0.1, 0.5, 0.9])
  x = path.add_noise(x0, noise, sigma)
  np.testing.assert_allclose(
      path.predict_x0(x, path.velocity_target(x0, noise), sigma), x0, atol=1e-6
  )


def test_shift_fixes_the_ends_and_moves_the_middle_towards_noise():
  assert path.shift(0.0, 5.0) == 0 and path.shift(1.0, 5.0) == 1
  assert path.shift(0.5, 5.0) == pytest.approx(5 / 6)


@pytest.mark.parametrize('bad', ([], [0], [500, 1000], [1001], [500, 500]))
def test_sampler_steps_must_descend_from_at_most_1000(bad):
  with pytest.raises(ValueError, match='expected descending'):
    path.shifted_sigmas(bad, 5.0)


def test_masked_slots_do_not_reach_the_loss():
  v = np.ones((2, 3, 2, 2, 1), np.float32)
  target = v.copy()
  target[:, 0] = 7.0
  target[1, 2] = 3.0
  loss = losses.velocity_mse(v, target, np.array([[1, 0, 0], [1, 0, 0.0]]))
  np.testing.assert_allclose(loss, [0.0, 2.0])


def test_unknown_weighting_names_the_choices():
  with pytest.raises(ValueError, match="'cosine'.*bell.*uniform"):
    losses.loss_weight(np.zeros(1), 'cosine', 5.0)


def test_motion_weight_has_mean_one_and_grows_where_the_clip_moves():
  latents = np.zeros((1, 5, 2, 2, 3), np.float32)
  latents[:, ::2, 0, 0] = 1.0
  weight = np.asarray(losses.motion_weight(latents, 2.0))
  assert weight.mean() == pytest.approx(1.0)
  assert weight[0, 0, 0, 0] > 2 * weight[0, 0, 1, 1]
  np.testing.assert_allclose(losses.motion_weight(latents, 0.0), 1.0)
