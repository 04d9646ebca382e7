"""The teacher's loss with networks that know the answer."""

import functools
import types as python_types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.flow import noise, path
from asymtalker_jax.train import teacher
from tests.train import distillation_step_test as case

WINDOWS = 4


def config(cold_start=0.0, drop_audio=0.0):
  return ml_collections.ConfigDict(dict(
      flow=dict(shift=5.0, weighting='uniform', motion_weight=0.0),
      conditioning=dict(cold_start=cold_start, drop_audio=drop_audio),
  ))


def batch():
  plan = case.networks().chunk
  keys = jax.random.split(jax.random.key(0), 3)
  latents, reference = (
      jax.random.normal(k, (WINDOWS, *plan.latent_shape)) for k in keys[:2]
  )
  audio = jax.random.normal(keys[2], (WINDOWS, plan.frames, 5, 4, 40))
  return types.TeacherBatch(latents=latents, reference=reference, audio=audio)


def oracle(batch, answer):
  """Networks whose velocity is answer(x, sigma, conditioning)."""
  def velocity(params, x, timestep, conditioning):
    sigma = path.expand(timestep / path.TIMESTEPS, x.ndim)
    return answer(x, sigma, conditioning)
  return python_types.SimpleNamespace(
      chunk=case.networks().chunk, velocity=velocity
  )


@pytest.mark.parametrize('error', [0.0, 0.5])
def test_loss_is_the_square_of_a_known_error(error):
  data = batch()
  # x = (1 - sigma) x0 + sigma noise, so noise - x0 = (x - x0) / sigma.
  networks = oracle(
      data, lambda x, sigma, _: (x - data.latents) / sigma + error
  )
  loss, logs = teacher.flow_loss(
      None, networks, data, jax.random.key(1), config()
  )
  # Float32 rounding of x, over a sigma of at least 0.005 (1e-7 / 0.005)^2.
  for value in (loss, logs['velocity_mse']):
    np.testing.assert_allclose(value, error**2, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('cold_start', [0.0, 1.0])
def test_network_sees_clean_continuity_in_held_slots_alone(cold_start):
  data, seen = batch(), {}

  def answer(x, sigma, conditioning):
    seen.update(x=x, mask=conditioning.mask)
    return x

  teacher.flow_loss(
      None, oracle(data, answer), data, jax.random.key(1), config(cold_start)
  )
  slots = 1 if cold_start else case.networks().chunk.continuity_slots
  clean = np.isclose(seen['x'], data.latents).all((2, 3, 4))
  expected = np.arange(data.latents.shape[1]) < slots
  np.testing.assert_array_equal(clean, [expected] * WINDOWS)


@pytest.mark.parametrize('drop_audio', [0.0, 1.0])
def test_dropped_audio_is_zero(drop_audio):
  data = batch()
  drawn = teacher.draw_conditioning(
      data, jax.random.key(0), 2, config(drop_audio=drop_audio).conditioning
  )
  np.testing.assert_array_equal(drawn.audio, data.audio * (1 - drop_audio))


def test_held_out_loss_is_the_mean_over_windows_in_the_memory_of_one():
  data, cfg, key = batch(), config(), jax.random.key(3)
  channels, hidden = data.latents.shape[-1], 4096
  params = jax.random.normal(key, (channels, hidden))
  networks = python_types.SimpleNamespace(
      chunk=case.networks().chunk,
      velocity=lambda w, x, *unused: jnp.tanh(x @ w) @ w.T,
  )
  one_by_one = [
      teacher.flow_loss(
          params, networks, jax.tree.map(lambda x: x[i:i + 1], data), keys, cfg
      )[1]['loss']
      for i, keys in enumerate(noise.example_keys(key, WINDOWS)[:, None])
  ]
  loss = jax.jit(functools.partial(teacher.held_out_loss, networks, cfg))
  np.testing.assert_allclose(
      loss(params, data, key)['loss'], np.mean(one_by_one), rtol=1e-5
  )
  compiled = loss.lower(params, data, key).compile()
  activations = data.latents.nbytes // channels * hidden
  assert compiled.memory_analysis().temp_size_in_bytes < activations / 2
