import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.flow import path, samplers

B, T, H, W, C = 2, 4, 2, 3, 5
SIGMAS = path.shifted_sigmas([1000, 750, 500, 250], 5.0)


def conditioning(slots=2, audio=1.0):
  key = jax.random.key(0)
  shape = (B, T, H, W, C)
  return types.Conditioning(
      reference=jax.random.normal(key, shape),
      audio=audio * jnp.ones((B, 7, 5, 1, 2)),
      continuity=jax.random.normal(jax.random.key(1), shape),
      mask=jnp.broadcast_to((jnp.arange(T) < slots).astype(float), (B, T)),
  )


def towards(x0):
  """Exact velocity of data that is the single point x0: v = (x - x0)/sigma."""
  return lambda x, t, c: (x - x0) / path.expand(t / 1000.0, x.ndim)


def test_few_step_and_euler_are_exact_for_a_single_data_point():
  c = conditioning()
  x0 = jax.random.normal(jax.random.key(2), c.continuity.shape)
  noise = jax.random.normal(jax.random.key(3), c.continuity.shape)
  want = samplers.hold_clean(x0, c)
  few = samplers.few_step(towards(x0), c, SIGMAS, jax.random.key(4))
  ode = samplers.euler(towards(x0), c, SIGMAS, noise)
  np.testing.assert_allclose(few, want, atol=1e-5)
  np.testing.assert_allclose(ode, want, atol=1e-5)


def test_continuity_slots_come_out_bit_identical():
  c = conditioning(slots=2)
  wrong = lambda x, t, c: 3.0 * x + 1.0
  out = samplers.few_step(wrong, c, SIGMAS, jax.random.key(0))
  np.testing.assert_array_equal(out[:, :2], c.continuity[:, :2])
  assert not np.allclose(out[:, 2:], c.continuity[:, 2:])


def test_network_sees_clean_continuity_at_every_step():
  c = conditioning(slots=1)
  seen = []

  def velocity(x, t, c):
    jax.debug.callback(lambda a: seen.append(np.array(a)), x[:, 0])
    return jnp.zeros_like(x)

  jax.block_until_ready(
      samplers.few_step(velocity, c, SIGMAS, jax.random.key(0))
  )
  jax.effects_barrier()
  assert len(seen) == 4
  for x in seen:
    np.testing.assert_array_equal(x, c.continuity[:, 0])


def test_few_step_draws_fresh_noise_at_every_step():
  c = dataclasses.replace(conditioning(slots=1))
  inputs = []

  def velocity(x, t, c):
    jax.debug.callback(lambda a: inputs.append(np.array(a)), x[:, 1:])
    # The clean estimate is always zero, so the input is sigma times noise.
    return x / path.expand(t / 1000.0, x.ndim)

  jax.block_until_ready(
      samplers.few_step(velocity, c, SIGMAS, jax.random.key(0))
  )
  jax.effects_barrier()
  noises = [x.ravel() / s for x, s in zip(inputs, SIGMAS[:-1])]
  correlation = np.corrcoef(noises)
  assert np.abs(correlation - np.eye(4)).max() < 0.4
  assert all(0.8 < n.std() < 1.2 for n in noises)


def test_guidance_drops_the_audio_only_and_extrapolates():
  c = conditioning(audio=2.0)

  def velocity(x, t, c):
    level = c.audio.mean(axis=(1, 2, 3, 4)) + c.reference.mean((1, 2, 3, 4))
    return jnp.broadcast_to(path.expand(level, x.ndim), x.shape)

  x, t = c.continuity, jnp.full((B,), 500.0)
  reference = path.expand(c.reference.mean((1, 2, 3, 4)), x.ndim)
  got = samplers.guided(velocity, 3.0)(x, t, c)
  # u = reference, c = reference + 2: u + 3 (c - u).
  np.testing.assert_allclose(got, jnp.broadcast_to(reference + 6, x.shape),
                             atol=1e-5)
  np.testing.assert_allclose(
      samplers.guided(velocity, 1.0)(x, t, c), velocity(x, t, c)
  )


def test_skip_guidance_leads_away_from_the_weak_network_without_audio():
  c = conditioning(audio=2.0)
  sees = lambda x, c: path.expand(c.audio.mean((1, 2, 3, 4)), x.ndim)
  strong = lambda x, t, c: sees(x, c) * jnp.ones_like(x)
  weak = lambda x, t, c: (sees(x, c) + 0.5) * jnp.ones_like(x)
  x, t = c.continuity, jnp.full((B,), 500.0)
  # u = 0.5, c = 2: u + 3 (c - u).
  got = samplers.guided(strong, 3.0, weak)(x, t, c)
  np.testing.assert_allclose(got, 5.0)
  np.testing.assert_allclose(samplers.guided(strong, 1.0, weak)(x, t, c), 2.0)


@pytest.mark.parametrize('steps', ([1000], [1000, 500]))
def test_any_number_of_steps_runs(steps):
  c = conditioning()
  out = samplers.few_step(
      towards(c.reference), c, path.shifted_sigmas(steps, 5.0),
      jax.random.key(0),
  )
  np.testing.assert_allclose(
      out, samplers.hold_clean(c.reference, c), atol=1e-5
  )


def test_bfloat16_rounding_gives_the_timesteps_of_the_released_models():
  c, seen = conditioning(slots=0), []

  def velocity(x, t, _):
    jax.debug.callback(lambda t: seen.append(float(t)), t[0])
    return jnp.ones_like(x)

  for rounding in types.ROUNDINGS:
    jax.block_until_ready(samplers.few_step(
        velocity, c, SIGMAS, jax.random.key(0), rounding=rounding
    ))
    jax.effects_barrier()
  np.testing.assert_allclose(
      seen, [1000, 937.5, 2500 / 3, 625, 1000, 936, 832, 624], rtol=1e-6
  )


def test_bfloat16_rounding_holds_for_the_update_too():
  x = jnp.ones((1, 1, 1, 1, 1))
  c = types.Conditioning(
      reference=x, audio=x, continuity=x, mask=jnp.zeros((1, 1))
  )
  x0 = samplers.predict_x0_at(
      lambda x, t, c: jnp.ones_like(x), x, SIGMAS[2], c, 'bfloat16'
  )
  assert float(x0[0, 0, 0, 0, 0]) == 1 - 0.83203125  # Of 0.83333.


def test_rounding_inside_a_compiled_program_is_not_taken_out():
  got = jax.jit(lambda s: samplers.rounded(1000.0 * s, 'bfloat16'))(SIGMAS)
  np.testing.assert_array_equal(got, [1000, 936, 832, 624, 0])


def test_unknown_rounding_names_the_choices():
  with pytest.raises(ValueError, match="'float16': expected one of"):
    samplers.rounded(jnp.ones(()), 'float16')
