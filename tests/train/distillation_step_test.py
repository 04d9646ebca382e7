"""One generator and one critic update with real (small) networks."""

import functools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.models import variants
from asymtalker_jax.train import state as state_lib
from asymtalker_jax.train import distillation

OPTIMIZER = dict(name='adamw', lr=1e-3, b1=0.0, clip_norm=10.0)


def config(**changes):
  values = dict(
      continuity=dict(
          student='self', teacher='ground_truth', critic='ground_truth'
      ),
      continuity_carry='reencode',
      sampler=dict(timesteps=(1000.0, 500.0)),
      flow=dict(shift=5.0),
      distillation=dict(
          critic_updates=1,
          guidance=1.0,
          skip_guidance=False,
          regression_weight=0.25,
      ),
      ema=dict(decay=0.9, start_step=0),
      optimizer=OPTIMIZER,
      critic_optimizer=OPTIMIZER,
      remat='full',
      microbatches=1,
  )
  return ml_collections.ConfigDict(values | changes)


@functools.cache
def networks():
  values = variants.values_of('micro')
  # 5 frames of 8x8 pixels -> 3 x 4 x 4 latents: what compiles fastest.
  values['chunk'].update(
      frames=5, height=8, width=8, temporal_stride=2, spatial_stride=2
  )
  values['vae'].update(
      base_channels=4, patch_size=1, multipliers=(1, 1), strides=((2, 2),)
  )
  values['dit'].update(width=16, depth=1, heads=2, ffn=16, audio_hidden=8)
  return variants.build(values)


@functools.cache
def frozen():
  key = jax.random.key(0)
  dit = networks().init_dit(key)
  # A fresh head is zero; a network that answers something shows more.
  dit = jax.tree.map(
      lambda x: x + 0.1 * jax.random.normal(key, x.shape), dit
  )
  return {'teacher': dit, 'vae': networks().init_vae(key)}


def batch(seed=0, chunks=2, size=2):
  plan = networks().chunk
  keys = jax.random.split(jax.random.key(seed), 3)
  normal = jax.random.normal
  return types.StudentBatch(
      latents=normal(keys[0], (size, chunks, *plan.latent_shape)),
      reference=normal(keys[1], (size, *plan.latent_shape)),
      audio=normal(keys[2], (size, chunks, plan.frames, 5, 4, 40)),
  )


def fresh(cfg):
  d = distillation.build(networks(), cfg)
  state = state_lib.StudentState.create(
      frozen()['teacher'], d.student_tx, d.critic_tx
  )
  return d, state


@functools.cache
def compiled(which, text):
  """One compilation for each update and config."""
  cfg = ml_collections.ConfigDict(json.loads(text))
  d = distillation.build(networks(), cfg)
  return jax.jit(functools.partial(which, d))


def step(which, cfg, data, seed=1):
  _, state = fresh(cfg)
  run = compiled(which, cfg.to_json())
  return state, *run(state, frozen(), data, jax.random.key(seed))


def changed(a, b):
  return any(
      np.any(np.asarray(x) != np.asarray(y))
      for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b))
  )


def test_generator_update_moves_the_student_and_nothing_else():
  old, new, logs = step(distillation.generator_step, config(), batch())
  assert changed(old.student, new.student) and changed(old.ema, new.ema)
  assert not changed(old.critic, new.critic)
  assert new.step == 1
  assert {'generator/dmd', 'generator/regression'} <= set(logs)
  assert all(np.isfinite(v) for v in logs.values())


def test_critic_update_moves_the_critic_and_nothing_else():
  old, new, logs = step(distillation.critic_step, config(), batch())
  assert changed(old.critic, new.critic)
  assert not changed(old.student, new.student)
  assert logs['critic/loss'] > 0


@pytest.mark.parametrize(
    'arm,depends',
    (
        (('self', 'ground_truth', 'ground_truth'), True),
        (('self', 'ground_truth', 'self'), True),
        (('ground_truth', 'ground_truth', 'ground_truth'), True),
        (('self', 'self', 'self'), False),
    ),
)
def test_every_arm_runs_and_only_symmetric_self_ignores_ground_truth(
    arm, depends
):
  roles = dict(zip(('student', 'teacher', 'critic'), arm))
  cfg = config(continuity=roles)
  cfg.distillation.regression_weight = 0.0
  a = batch()
  b = types.StudentBatch(
      latents=a.latents + 1.0, reference=a.reference, audio=a.audio
  )
  _, one, _ = step(distillation.generator_step, cfg, a)
  _, two, _ = step(distillation.generator_step, cfg, b)
  assert changed(one.student, two.student) == depends


def test_skip_guidance_changes_the_score_of_the_teacher():
  cfg = config()
  cfg.distillation.skip_guidance = True
  _, plain, _ = step(distillation.generator_step, config(), batch())
  _, skip, logs = step(distillation.generator_step, cfg, batch())
  assert changed(plain.student, skip.student)
  assert all(np.isfinite(v) for v in logs.values())


def test_the_chunk_that_is_scored_does_not_depend_on_ground_truth():
  d, state = fresh(config())
  a = batch()
  b = types.StudentBatch(
      latents=a.latents + 1.0, reference=a.reference, audio=a.audio
  )

  @jax.jit
  def run(data):
    draw = distillation.Draw.create(d, data, jax.random.key(2))
    sample = distillation.roll_out(
        d, state.student, frozen()['vae'], data, draw
    )
    return draw.k, distillation.generate(d, state.student, sample)

  (k, first), (_, second) = run(a), run(b)
  assert k == 1  # A chunk that a rollout comes before.
  np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize('carry', ('reencode', 'latent'))
def test_own_continuity_comes_from_the_previous_chunk(carry):
  d, state = fresh(config(continuity_carry=carry))
  latents = batch().latents[:, 0]
  got = d.carry(frozen()['vae'])(latents)
  assert got.shape == (2, 2, *latents.shape[2:])
  if carry == 'latent':
    np.testing.assert_array_equal(got, latents[:, -2:])
  else:
    video = networks().decode_video(frozen()['vae'], latents)
    video = video[:, -networks().chunk.continuity_frames :]
    np.testing.assert_allclose(
        got, networks().encode_video(frozen()['vae'], video), atol=1e-5
    )


def test_unknown_carry_names_the_choices():
  with pytest.raises(ValueError, match="'pixels'.*reencode.*latent"):
    distillation.build(networks(), config(continuity_carry='pixels'))


def test_microbatches_add_up_to_the_batch():
  data = batch(size=4)
  for which in (distillation.generator_step, distillation.critic_step):
    # Adam divides by the gradient's size; a large eps keeps it linear.
    linear = dict(OPTIMIZER, eps=1.0)
    roles = dict(optimizer=linear, critic_optimizer=linear)
    _, whole, logs = step(which, config(**roles), data)
    _, parts, part_logs = step(which, config(**roles, microbatches=2), data)
    for name in set(logs) - {'generator/dmd_to_regression'}:
      np.testing.assert_allclose(part_logs[name], logs[name], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts)):
      np.testing.assert_allclose(a, b, atol=1e-5)


def test_microbatches_that_do_not_divide_the_batch_are_refused():
  with pytest.raises(ValueError, match='microbatches=3.*batch_size=2'):
    step(distillation.critic_step, config(microbatches=3), batch())


@pytest.mark.parametrize('frames', (2, 3))
def test_the_tail_of_a_video_is_decoded_frame_by_frame(frames):
  latents = batch().latents[:, 0]
  vae = frozen()['vae']
  got = networks().decode_tail(vae, latents, frames)
  want = networks().decode_video(vae, latents)[:, -frames:]
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_frozen_teacher_may_be_stored_in_half_precision():
  half = distillation.freeze(frozen()['teacher'], 'bfloat16')
  assert {x.dtype for x in jax.tree.leaves(half)} == {jnp.bfloat16.dtype}
  with pytest.raises(ValueError, match="frozen_dtype 'int8'.*bfloat16"):
    distillation.freeze(half, 'int8')


def test_a_student_that_follows_the_regression_approaches_ground_truth():
  cfg = config()
  cfg.distillation.regression_weight = 100.0
  _, state = fresh(cfg)
  data = batch(chunks=1)
  run = compiled(distillation.generator_step, cfg.to_json())
  first = last = None
  for _ in range(30):
    state, logs = run(state, frozen(), data, jax.random.key(0))
    last = float(logs['generator/regression'])
    first = first or last
  assert last < 0.9 * first
