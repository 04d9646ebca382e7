"""Schedules, masks and averages with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.train import optimizer

SECTION = dict(name='adamw', lr=0.1)


def test_warm_up_is_linear_and_then_constant():
  _, schedule = optimizer.build(SECTION | dict(warmup_steps=10))
  np.testing.assert_allclose(
      [schedule(s) for s in (0, 5, 10, 99)], [0, 0.05, 0.1, 0.1], rtol=1e-6
  )


def test_cosine_ends_at_its_floor():
  _, schedule = optimizer.build(
      SECTION
      | dict(warmup_steps=10, schedule='cosine', total_steps=30,
             final_lr_ratio=0.1)
  )
  np.testing.assert_allclose(
      [schedule(s) for s in (0, 10, 20, 30, 40)],
      [0, 0.1, 0.055, 0.01, 0.01], rtol=1e-5, atol=1e-7,
  )


def test_cosine_without_warm_up_starts_at_the_peak():
  _, schedule = optimizer.build(
      SECTION | dict(schedule='cosine', total_steps=10)
  )
  np.testing.assert_allclose(schedule(0), 0.1, rtol=1e-6)


def test_weight_decay_touches_kernels_only():
  tx, _ = optimizer.build(SECTION | dict(weight_decay=0.5))
  params = {'a': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}}
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zeros, tx.init(params), params)
  np.testing.assert_allclose(updates['a']['kernel'], -0.1 * 0.5)
  np.testing.assert_allclose(updates['a']['bias'], 0)


def test_gradients_are_clipped_to_the_norm():
  # With b1 = 0 and a large epsilon the update is lr * gradient / epsilon.
  tx, _ = optimizer.build(SECTION | dict(b1=0.0, eps=1e6, clip_norm=1.0))
  params = {'kernel': jnp.zeros(2)}
  updates, _ = tx.update({'kernel': jnp.array([30.0, 40.0])},
                         tx.init(params), params)
  np.testing.assert_allclose(
      updates['kernel'], -0.1 * np.array([0.6, 0.8]) / 1e6, rtol=1e-4
  )


def test_norms_say_whether_the_gradient_was_clipped():
  params = {'kernel': jnp.array([6.0, 8.0])}
  for size, clip, clipped in ((30, 1, 1), (0.3, 1, 0), (30, 0, 0)):
    grads = {'kernel': jnp.array([size, 0.0])}
    found = optimizer.norms(SECTION | dict(clip_norm=clip), grads, params)
    np.testing.assert_allclose(found['gradient'], size, rtol=1e-6)
    np.testing.assert_allclose(found['parameters'], 10.0, rtol=1e-6)
    assert found['clipped'] == clipped


def test_muon_orthogonalises_every_layer_of_a_stack():
  tx, _ = optimizer.build(dict(name='muon', lr=1.0))
  key = jax.random.key(0)
  params = {'kernel': jnp.zeros((3, 16, 8)), 'bias': jnp.zeros((3, 8))}
  scales = jnp.array([1e-3, 1.0, 1e3])[:, None, None]
  grads = {'kernel': jax.random.normal(key, (3, 16, 8)) * scales,
           'bias': jnp.ones((3, 8))}
  updates, _ = tx.update(grads, tx.init(params), params)
  values = np.linalg.svd(np.asarray(updates['kernel']), compute_uv=False)
  # Equal singular values up to Newton-Schulz's tolerance, in every layer,
  # scaled to AdamW's root mean square: 0.2 sqrt(16).
  assert values.min() > 0.5 * 0.8 and values.max() < 1.4 * 0.8
  # AdamW with Nesterov momentum: first step between lr and 1.5 lr.
  assert np.all((updates['bias'] < -1.0) & (updates['bias'] > -1.5))


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(name='sgd'), ["'sgd'", 'adamw', 'muon']),
        (dict(schedule='step'), ["'step'", 'cosine']),
        (dict(schedule='cosine', total_steps=0), ['total_steps=0']),
        (dict(learning_rate=1.0), ['learning_rate', 'lr', 'warmup_steps']),
        (dict(lr=-1.0), ['lr=-1.0']),
        (dict(lr=float('nan')), ['lr=nan']),
        (dict(b1=1.0), ['b1=1.0', 'below 1']),
        (dict(b2=2.0), ['b2=2.0', 'below 1']),
        (dict(muon_beta=3.0), ['muon_beta=3.0', 'below 1']),
        (dict(final_lr_ratio=-1.0), ['final_lr_ratio=-1.0', '0 to 1']),
    ],
)
def test_bad_sections_are_refused_in_one_line(change, words):
  with pytest.raises(ValueError) as error:
    optimizer.build(SECTION | change)
  assert all(word in str(error.value) for word in words)
  assert '\n' not in str(error.value)


def test_missing_learning_rate_is_refused():
  with pytest.raises(ValueError, match="missing key 'lr'"):
    optimizer.build(dict(name='adamw'))


def test_average_follows_until_start_and_then_decays():
  ema, params = {'x': jnp.array(0.0)}, {'x': jnp.array(1.0)}
  early = optimizer.ema_update(ema, params, 0.9, jnp.array(5), start=5)
  late = optimizer.ema_update(ema, params, 0.9, jnp.array(6), start=5)
  np.testing.assert_allclose(early['x'], 1.0)
  np.testing.assert_allclose(late['x'], 0.1, rtol=1e-6)
