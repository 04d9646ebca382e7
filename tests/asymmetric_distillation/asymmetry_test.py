"""The claim of the method as tests: who depends on the ground truth."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import rollout, views
from asymtalker_jax.flow import path, samplers

B, K, T, H, W, C, M = 2, 3, 4, 2, 2, 3, 2
SIGMAS = path.shifted_sigmas([1000, 500], 5.0)


def batch(seed=0):
  latents, reference, audio = jax.random.split(jax.random.key(seed), 3)
  return types.StudentBatch(
      latents=jax.random.normal(latents, (B, K, T, H, W, C)),
      reference=jax.random.normal(reference, (B, T, H, W, C)),
      audio=jax.random.normal(audio, (B, K, 5, 5, 1, 2)),
  )


def velocity(x, timestep, c):
  """Mixes everything that the network sees, across latent frames."""
  audio = path.expand(c.audio.mean((1, 2, 3, 4)), x.ndim)
  return 0.3 * x.mean(1, keepdims=True) + 0.2 * c.reference + audio


def carry(latents):
  return latents[:, -M:] * 0.9


def own(b, k):
  return rollout.own_continuity(
      velocity, carry, b.reference, b.audio, k, SIGMAS, jax.random.key(7)
  )


def perturbed(b):
  return dataclasses.replace(b, latents=b.latents + 1.0)


@pytest.mark.parametrize('k', range(K))
def test_ground_truth_moves_the_teacher_and_not_the_student(k):
  b = batch()
  student = [own(x, k) for x in (b, perturbed(b))]
  teacher = [
      views.select('ground_truth', own(x, k), x, k, M)
      for x in (b, perturbed(b))
  ]
  np.testing.assert_array_equal(student[0].latents, student[1].latents)
  np.testing.assert_allclose(teacher[1].latents - teacher[0].latents, 1, 1e-6)
  np.testing.assert_array_equal(student[0].mask, teacher[0].mask)


def test_rollout_has_no_way_to_receive_ground_truth():
  for name, function in inspect.getmembers(rollout, inspect.isfunction):
    parameters = inspect.signature(function).parameters.values()
    assert not any(
        'StudentBatch' in str(p.annotation) or p.name in ('batch', 'target')
        for p in parameters
    ), name


def test_rollout_equals_the_chunks_written_out():
  b, key = batch(), jax.random.key(7)
  continuity = rollout.cold_start(b.reference)
  for j in range(2):
    c = views.conditioning(b, j, continuity)
    latents = samplers.few_step(
        velocity, c, SIGMAS, jax.random.fold_in(key, j)
    )
    continuity = rollout.continue_from(latents, carry)
  got = own(b, 2)
  np.testing.assert_allclose(got.latents, continuity.latents, atol=1e-6)
  np.testing.assert_array_equal(got.mask, continuity.mask)


def test_chunk_zero_starts_from_the_reference_alone():
  b = batch()
  start = own(b, 0)
  np.testing.assert_array_equal(start.latents[:, 0], b.reference[:, 0])
  np.testing.assert_array_equal(start.mask, [[1, 0, 0, 0]] * B)
  truth = views.ground_truth(b, 0, M)
  np.testing.assert_array_equal(truth.mask, [[1, 0, 0, 0]] * B)
  np.testing.assert_array_equal(views.ground_truth(b, 1, M).mask[0],
                                [1, 1, 0, 0])


def test_students_of_all_arms_start_chunk_zero_alike():
  b = batch()
  for k in range(2):
    seen = [
        views.start_from_reference(
            views.select(source, own(b, k), b, k, M), b, k
        )
        for source in views.SOURCES
    ]
    np.testing.assert_array_equal(seen[0].mask, seen[1].mask)
    same = jnp.array_equal(seen[0].latents[:, 0], seen[1].latents[:, 0])
    assert same == (k == 0)
  truth = views.ground_truth(b, 1, M)
  np.testing.assert_array_equal(seen[1].latents, truth.latents)


def test_one_compilation_serves_every_chunk_index():
  calls = []

  @jax.jit
  def traced(b, k):
    calls.append(None)
    return own(b, k)

  for k in range(K):
    traced(batch(), jnp.asarray(k))
  assert len(calls) == 1


def test_sampling_to_the_last_exit_and_one_step_is_the_few_step_sampler():
  b = batch()
  c = views.conditioning(b, 0, own(b, 0))
  key = jax.random.key(5)
  x = rollout.noisy_at_exit(velocity, c, SIGMAS, jnp.asarray(1), key)
  x0 = samplers.predict_x0_at(velocity, x, SIGMAS[1], c)
  want = samplers.few_step(velocity, c, SIGMAS, key)
  np.testing.assert_allclose(samplers.hold_clean(x0, c), want, atol=1e-6)


def test_arms_that_contradict_themselves_are_refused():
  views.Arm(student='self', teacher='self', critic='self')
  views.Arm(
      student='ground_truth', teacher='ground_truth', critic='ground_truth'
  )
  with pytest.raises(ValueError, match='no own frames'):
    views.Arm(student='ground_truth', teacher='self')
  with pytest.raises(ValueError, match="continuity.critic 'both'.*expected"):
    views.Arm(critic='both')
