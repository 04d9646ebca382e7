"""One update of asymmetric distillation (docs/method.md, section 5).

Two data paths meet here and nowhere else. The self-rollout path (`rollout`)
takes reference and audio; the ground-truth path (`views.select`) takes the
encoded windows. `continuity` in the config says which role sees which.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from asymtalker_jax import sampler_values
from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import critic
from asymtalker_jax.asymmetric_distillation import dmd
from asymtalker_jax.asymmetric_distillation import rollout
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import noise as noise_lib
from asymtalker_jax.flow import path, samplers
from asymtalker_jax.models import variants
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import program
from asymtalker_jax.train import state as state_lib

FROZEN_DTYPES = ('float32', 'bfloat16')
# Scopes of the two loops whose lengths are drawn in each step.
PREFIX, EXIT = 'prefix_chunks', 'steps_before_exit'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation:
  """What stays fixed over the run, besides the frozen parameters.

  Attributes:
    networks: functions of the variant.
    config: of `configs/student.py`.
    arm: continuity source per role.
    student_tx: optimiser of the student.
    critic_tx: optimiser of the critic.
  """

  networks: variants.Networks
  config: ml_collections.FrozenConfigDict
  arm: views.Arm
  student_tx: optax.GradientTransformation
  critic_tx: optax.GradientTransformation

  @property
  def sigmas(self):
    """Noise levels of the few-step sampler, with the final zero."""
    return path.shifted_sigmas(
        self.config.sampler.timesteps, self.config.flow.shift
    )

  def carry(self, vae_params: types.Params) -> rollout.Carry:
    """Latents of a chunk -> continuity of the next one, by the config."""
    plan, networks = self.networks.chunk, self.networks
    if self.config.continuity_carry == 'latent':
      return lambda latents: latents[:, -plan.continuity_slots :]

    def reencode(latents):
      tail = networks.decode_tail(
          vae_params, latents, plan.continuity_frames
      )
      return networks.encode_video(vae_params, tail)

    return reencode


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """A rollout up to the one step that may be differentiated.

  Attributes:
    noisy: [B, T, H, W, C] input of that step.
    sigma: scalar noise level of `noisy`.
    k: index of the chunk, the same for all examples.
    own: the student's own continuity of chunk k, None where no role reads it.
    conditioning: the student's view of chunk k.
  """

  noisy: jax.Array
  sigma: jax.Array
  k: jax.Array
  own: views.Continuity | None
  conditioning: types.Conditioning


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw:
  """What one update draws.

  Attributes:
    k: [] index of the chunk to score, the same for all examples.
    exit_step: [] sampler step of that chunk that has the gradient.
    rollout: [B] keys, noise of each example's rollout.
    score: [B] keys, noise of each example's scores.
  """

  k: jax.Array
  exit_step: jax.Array
  rollout: jax.Array
  score: jax.Array

  @classmethod
  def create(
      cls, d: Distillation, batch: types.StudentBatch, key: jax.Array
  ) -> 'Draw':
    """Draws for a batch."""
    size, chunks = batch.latents.shape[:2]
    chunk_key, exit_key, *noise_keys = jax.random.split(key, 4)
    rollout_keys, score_keys = (
        noise_lib.example_keys(k, size) for k in noise_keys
    )
    return cls(
        k=jax.random.randint(chunk_key, (), 0, chunks),
        exit_step=jax.random.randint(exit_key, (), 0, len(d.sigmas) - 1),
        rollout=rollout_keys,
        score=score_keys,
    )


def roll_out(
    d: Distillation,
    student: types.Params,
    vae: types.Params,
    batch: types.StudentBatch,
    draw: Draw,
) -> Sample:
  """Generates up to step `exit_step` of chunk k, without gradient."""
  k, exit_step, noise_key = draw.k, draw.exit_step, draw.rollout
  velocity = d.networks.bind_velocity(jax.lax.stop_gradient(student))
  own = None
  if 'self' in dataclasses.asdict(d.arm).values():
    with jax.named_scope(PREFIX):
      own = rollout.own_continuity(
          velocity, d.carry(vae), batch.reference, batch.audio, k, d.sigmas,
          noise_key,
      )
  slots = d.networks.chunk.continuity_slots
  seen = views.select(d.arm.student, own, batch, k, slots)
  seen = views.start_from_reference(seen, batch, k)
  conditioning = views.conditioning(batch, k, seen)
  with jax.named_scope(EXIT):
    noisy = rollout.noisy_at_exit(
        velocity, conditioning, d.sigmas, exit_step,
        noise_lib.fold_in(noise_key, k),
    )
  return Sample(
      noisy=noisy, sigma=jnp.asarray(d.sigmas)[exit_step], k=k, own=own,
      conditioning=conditioning,
  )


def _view(d: Distillation, role: str, batch, sample: Sample):
  slots = d.networks.chunk.continuity_slots
  source = getattr(d.arm, role)
  return views.conditioning(
      batch,
      sample.k,
      views.select(source, sample.own, batch, sample.k, slots),
  )


def generate(
    d: Distillation, student: types.Params, sample: Sample
) -> jax.Array:
  """x0_gen [B, T, H, W, C]: the one step with gradient."""
  return samplers.predict_x0_at(
      d.networks.bind_velocity(student), sample.noisy, sample.sigma,
      sample.conditioning,
  )


def _real(d: Distillation, teacher: types.Params) -> types.Velocity:
  """The teacher's velocity with the guidance of the config."""
  values, weak = d.config.distillation, None
  if values.skip_guidance:
    weak = d.networks.bind_weak_velocity(teacher)
  velocity = d.networks.bind_velocity(teacher)
  return samplers.guided(velocity, 1.0 + values.guidance, weak)


def generator_loss(
    student: types.Params,
    d: Distillation,
    frozen: dict[str, types.Params],
    critic_params: types.Params,
    batch: types.StudentBatch,
    sample: Sample,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Distribution-matching loss of one own chunk, docs/method.md (3)."""
  fake = d.networks.bind_velocity(jax.lax.stop_gradient(critic_params))
  return dmd.loss(
      generate(d, student, sample),
      views.window(batch, sample.k),
      real=(_real(d, frozen['teacher']), _view(d, 'teacher', batch, sample)),
      fake=(fake, _view(d, 'critic', batch, sample)),
      key=key,
      shift=d.config.flow.shift,
      regression_weight=d.config.distillation.regression_weight,
  )


def generator_step(
    d: Distillation,
    state: state_lib.StudentState,
    frozen: dict[str, types.Params],
    batch: types.StudentBatch,
    key: jax.Array,
) -> tuple[state_lib.StudentState, dict[str, jax.Array]]:
  """One update of the student and of its average."""

  def gradient(part, draw):
    sample = roll_out(d, state.student, frozen['vae'], part, draw)
    return jax.grad(generator_loss, has_aux=True)(
        state.student, d, frozen, state.critic, part, sample, draw.score
    )

  k, (grads, logs) = _by_microbatch(d, gradient, batch, key)
  updates, opt = d.student_tx.update(grads, state.student_opt, state.student)
  student = optax.apply_updates(state.student, updates)
  ema = optimizer.ema_update(
      state.ema, student, d.config.ema.decay, state.step + 1,
      d.config.ema.start_step,
  )
  logs = dict(logs, k=k) | optimizer.norms(d.config.optimizer, grads, student)
  new = dataclasses.replace(
      state, step=state.step + 1, student=student, ema=ema, student_opt=opt
  )
  return new, {'generator/' + name: value for name, value in logs.items()}


def critic_step(
    d: Distillation,
    state: state_lib.StudentState,
    frozen: dict[str, types.Params],
    batch: types.StudentBatch,
    key: jax.Array,
) -> tuple[state_lib.StudentState, dict[str, jax.Array]]:
  """One update of the critic on a fresh rollout of the student."""

  def gradient(part, draw):
    sample = roll_out(d, state.student, frozen['vae'], part, draw)
    x0 = generate(d, jax.lax.stop_gradient(state.student), sample)
    view = _view(d, 'critic', part, sample)

    def loss(params):
      return critic.loss(
          d.networks.bind_velocity(params), x0, view, draw.score,
          shift=d.config.flow.shift,
      )

    return jax.value_and_grad(loss)(state.critic)

  _, (value, grads) = _by_microbatch(d, gradient, batch, key)
  updates, opt = d.critic_tx.update(grads, state.critic_opt, state.critic)
  params = optax.apply_updates(state.critic, updates)
  new = dataclasses.replace(
      state, step=state.step + 1, critic=params, critic_opt=opt
  )
  logs = dict(loss=value) | optimizer.norms(
      d.config.critic_optimizer, grads, params
  )
  return new, {'critic/' + name: value for name, value in logs.items()}


def _by_microbatch(d: Distillation, gradient, batch, key):
  """Chunk k, and the mean of gradient(part, draw) over the microbatches."""
  batch = float32(batch)
  draw = Draw.create(d, batch, key)

  def of_part(rows):
    part, rollout_keys, score_keys = rows
    return gradient(
        part,
        dataclasses.replace(draw, rollout=rollout_keys, score=score_keys),
    )

  rows = (batch, draw.rollout, draw.score)
  return draw.k, program.mean_over_microbatches(
      of_part, rows, d.config.microbatches
  )


def float32(batch: Any) -> Any:
  """The batch as the step computes with it; it is stored in half precision."""
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)


def freeze(teacher: types.Params, dtype: str) -> types.Params:
  """The teacher as it is stored beside the student.

  Raises:
    ValueError: unknown type.
  """
  if dtype not in FROZEN_DTYPES:
    raise ValueError(
        f'frozen_dtype {dtype!r}: expected one of {FROZEN_DTYPES}'
    )
  return jax.tree.map(lambda x: x.astype(dtype), teacher)


def init_state(d: Distillation, teacher: types.Params):
  """State at step 0: student and critic start as the teacher."""
  return state_lib.StudentState.create(teacher, d.student_tx, d.critic_tx)


def steps(d: Distillation) -> dict[str, Callable[..., Any]]:
  """The two updates, as the loop calls them."""

  def generator(state, batch, key, frozen):
    return generator_step(d, state, frozen, batch, key)

  def critic_update(state, batch, key, frozen):
    return critic_step(d, state, frozen, batch, key)

  return {'generator': generator, 'critic': critic_update}


def build(
    networks: variants.Networks, config: ml_collections.ConfigDict
) -> Distillation:
  """The fixed part of a run.

  Raises:
    ValueError: unknown carry, contradictory arm, bad optimiser section,
      unknown remat policy.
  """
  if config.continuity_carry not in sampler_values.CARRIES:
    raise ValueError(
        f'continuity_carry {config.continuity_carry!r}: expected one of'
        f' {sampler_values.CARRIES}'
    )
  return Distillation(
      networks=variants.with_remat(networks, config.remat),
      config=ml_collections.FrozenConfigDict(config),
      arm=views.Arm(**config.continuity),
      student_tx=optimizer.build(config.optimizer)[0],
      critic_tx=optimizer.build(config.critic_optimizer)[0],
  )


def mean_trips(d: Distillation) -> dict[str, float]:
  """Scope -> mean length of the loop in it, of the uniform draws in `Draw`."""
  return {PREFIX: (d.config.chunks - 1) / 2, EXIT: (len(d.sigmas) - 2) / 2}
