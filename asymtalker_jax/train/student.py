"""Asymmetric distillation (method.md, section 5).

A step of the loop is one update: of the student, then `critic_updates` of the
critic, and so on, each on a batch of its own.

Two data paths meet here and nowhere else. The self-rollout path (`rollout`)
takes reference and audio; the ground-truth path (`views.select`) takes the
encoded windows. `continuity` in the config says which role sees which.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import critic
from asymtalker_jax.asymmetric_distillation import dmd
from asymtalker_jax.asymmetric_distillation import rollout
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import path, samplers
from asymtalker_jax.inputs import loader
from asymtalker_jax.models import variants
from asymtalker_jax.train import loop
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib

CARRIES = ('reencode', 'latent')


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
      video = networks.decode_video(vae_params, latents)
      return networks.encode_video(
          vae_params, video[:, -plan.continuity_frames :]
      )

    return reencode


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """A rollout up to the one step that may be differentiated.

  Attributes:
    noisy: [B, T, H, W, C] input of that step.
    sigma: scalar noise level of `noisy`.
    k: index of the chunk.
    own: the student's own continuity of chunk k, None where no role reads it.
    conditioning: the student's view of chunk k.
  """

  noisy: jax.Array
  sigma: jax.Array
  k: jax.Array
  own: views.Continuity | None
  conditioning: types.Conditioning


def roll_out(
    d: Distillation,
    student: types.Params,
    vae: types.Params,
    batch: types.StudentBatch,
    key: jax.Array,
) -> Sample:
  """Draws chunk k and exit step, the same for all examples, and gets there."""
  chunk_key, exit_key, noise_key = jax.random.split(key, 3)
  chunks = batch.latents.shape[1]
  k = jax.random.randint(chunk_key, (), 0, chunks)
  exit_step = jax.random.randint(exit_key, (), 0, len(d.sigmas) - 1)
  velocity = d.networks.bind_velocity(jax.lax.stop_gradient(student))
  own = None
  if 'self' in dataclasses.asdict(d.arm).values():
    own = rollout.own_continuity(
        velocity, d.carry(vae), batch.reference, batch.audio, k, d.sigmas,
        noise_key,
    )
  slots = d.networks.chunk.continuity_slots
  seen = views.select(d.arm.student, own, batch, k, slots)
  conditioning = views.conditioning(batch, k, seen)
  noisy = rollout.noisy_at_exit(
      velocity, conditioning, d.sigmas, exit_step,
      jax.random.fold_in(noise_key, k),
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


def generator_loss(
    student: types.Params,
    d: Distillation,
    frozen: dict[str, types.Params],
    critic_params: types.Params,
    batch: types.StudentBatch,
    sample: Sample,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Distribution-matching loss of one self-generated chunk, method.md (3)."""
  guidance = d.config.distillation.guidance
  real = samplers.guided(
      d.networks.bind_velocity(frozen['teacher']), 1.0 + guidance
  )
  fake = d.networks.bind_velocity(jax.lax.stop_gradient(critic_params))
  return dmd.loss(
      generate(d, student, sample),
      views.window(batch, sample.k),
      real=(real, _view(d, 'teacher', batch, sample)),
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
  batch = _float32(batch)
  rollout_key, score_key = jax.random.split(key)
  sample = roll_out(d, state.student, frozen['vae'], batch, rollout_key)
  grads, logs = jax.grad(generator_loss, has_aux=True)(
      state.student, d, frozen, state.critic, batch, sample, score_key
  )
  updates, opt = d.student_tx.update(grads, state.student_opt, state.student)
  student = optax.apply_updates(state.student, updates)
  ema = optimizer.ema_update(
      state.ema, student, d.config.ema.decay, state.step,
      d.config.ema.start_step,
  )
  logs = dict(logs, k=sample.k, student_gradient=optax.tree.norm(grads))
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
  batch = _float32(batch)
  rollout_key, score_key = jax.random.split(key)
  sample = roll_out(d, state.student, frozen['vae'], batch, rollout_key)
  x0 = generate(d, jax.lax.stop_gradient(state.student), sample)
  view = _view(d, 'critic', batch, sample)

  def loss(params):
    return critic.loss(
        d.networks.bind_velocity(params), x0, view, score_key,
        shift=d.config.flow.shift,
    )

  value, grads = jax.value_and_grad(loss)(state.critic)
  updates, opt = d.critic_tx.update(grads, state.critic_opt, state.critic)
  new = dataclasses.replace(
      state,
      step=state.step + 1,
      critic=optax.apply_updates(state.critic, updates),
      critic_opt=opt,
  )
  return new, {
      'critic/loss': value,
      'critic/gradient': optax.tree.norm(grads),
  }


def _float32(batch: Any) -> Any:
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)


def train(
    config: ml_collections.ConfigDict, data: str, teacher: str, workdir: str
) -> loop.Result:
  """Distils a teacher into a few-step student; writes `workdir/bundle`.

  Args:
    config: of `configs/student.py`.
    data: folder of `asymtalker data encode`.
    teacher: bundle with a teacher and its VAE.
    workdir: checkpoints, metrics and samples; continued where it exists.

  Raises:
    ValueError, FileNotFoundError: bad config, data or bundle, before any
      compilation.
  """
  source = bundle_lib.load(teacher, parts=('vae', 'teacher', 'audio'))
  networks, frozen = source.networks, source.params
  d = build(networks, config)
  batches = loader.student_batches(
      data, networks.chunk, config.chunks, config.batch_size, config.seed,
      in_memory=config.in_memory,
  )
  held_out = next(
      loader.student_batches(
          data, networks.chunk, config.chunks, 1, config.seed, split='test',
          shuffle=False, threads=0,
      )
  )

  def init(params):
    return state_lib.StudentState.create(params, d.student_tx, d.critic_tx)

  def generator(state, batch, key, frozen):
    return generator_step(d, state, frozen, batch, key)

  def critic_update(state, batch, key, frozen):
    return critic_step(d, state, frozen, batch, key)

  period = 1 + config.distillation.critic_updates
  evaluation = Evaluation(d, frozen, held_out)
  result = loop.train(
      config, workdir, init,
      {'generator': generator, 'critic': critic_update}, batches,
      init_args=(frozen['teacher'],), frozen=frozen,
      pick=lambda step: 'generator' if step % period == 0 else 'critic',
      on_eval=evaluation,
  )
  bundle_lib.save(
      os.path.join(workdir, 'bundle'), variant=config.variant,
      model=networks.values, params=dict(frozen, dit=result.state.ema),
      sampler=dict(
          timesteps=list(config.sampler.timesteps), shift=config.flow.shift
      ),
  )
  return result


def build(
    networks: variants.Networks, config: ml_collections.ConfigDict
) -> Distillation:
  """The fixed part of a run.

  Raises:
    ValueError: unknown carry, contradictory arm, bad optimiser section.
  """
  if config.continuity_carry not in CARRIES:
    raise ValueError(
        f'continuity_carry {config.continuity_carry!r}: expected one of'
        f' {CARRIES}'
    )
  return Distillation(
      networks=networks,
      config=ml_collections.FrozenConfigDict(config),
      arm=views.Arm(**config.continuity),
      student_tx=optimizer.build(config.optimizer)[0],
      critic_tx=optimizer.build(config.critic_optimizer)[0],
  )


class Evaluation:
  """A held-out self-rollout of all chunks: its drift from the ground truth."""

  def __init__(self, d, frozen, batch):
    self._d, self._frozen, self._batch = d, frozen, batch
    self._chunk = jax.jit(self._generate)
    self._decode = jax.jit(d.networks.decode_video)
    self._drawn = False

  def _generate(self, params, frozen, batch, j, continuity):
    conditioning = views.conditioning(batch, j, continuity)
    latents = samplers.few_step(
        self._d.networks.bind_velocity(params), conditioning, self._d.sigmas,
        jax.random.fold_in(jax.random.key(0), j),
    )
    carry = self._d.carry(frozen['vae'])
    return latents, rollout.continue_from(latents, carry)

  def __call__(self, state, step, writer) -> dict[str, float]:
    """Writes the video of the rollout; returns the error of each chunk."""
    batch = _float32(self._batch)
    continuity = rollout.cold_start(batch.reference)
    chunks = []
    for j in range(batch.latents.shape[1]):
      latents, continuity = self._chunk(
          state.ema, self._frozen, batch, jnp.asarray(j), continuity
      )
      chunks.append(latents)
    vae = self._frozen['vae']
    video = lambda parts: np.concatenate(
        [np.asarray(self._decode(vae, x)[0])[::2] for x in parts]
    )
    writer.video(step, 'rollout', video(chunks), columns=12)
    if not self._drawn:
      truth = [batch.latents[:, j] for j in range(len(chunks))]
      writer.video(step, 'ground_truth', video(truth), columns=12)
      self._drawn = True
    return {
        f'eval/latent_error_chunk{j}': float(
            jnp.mean(jnp.square(x - batch.latents[:, j]))
        )
        for j, x in enumerate(chunks)
    }
