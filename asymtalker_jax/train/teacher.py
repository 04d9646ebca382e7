"""Training of the teacher: flow matching on ground-truth continuity."""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import losses, path, samplers
from asymtalker_jax.flow import noise as noise_lib
from asymtalker_jax.inputs import encoded
from asymtalker_jax.inputs import loader
from asymtalker_jax.models import variants
from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import encode_dataset
from asymtalker_jax.train import loop
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import program
from asymtalker_jax.train import start as start_lib
from asymtalker_jax.train import state as state_lib
from asymtalker_jax.train import throughput


def model_values(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Values of the variant with what the config says about the network."""
  values = variants.values_of(config.variant)
  if config.per_frame_timestep:
    values['dit']['per_frame_timestep'] = True
  return values


def draw_conditioning(
    batch: types.TeacherBatch,
    key: jax.Array,
    slots: int,
    config: ml_collections.ConfigDict,
) -> types.Conditioning:
  """Ground-truth conditioning with cold starts and dropped audio.

  Args:
    batch: B windows.
    key: of the two draws per example; one, or one per example.
    slots: m continuity slots; a cold start holds only slot 0.
    config: probabilities cold_start and drop_audio.
  """
  cold_key, audio_key = noise_lib.split(key)
  size, latent_frames = batch.latents.shape[:2]
  cold = noise_lib.uniform(cold_key, (size,)) < config.cold_start
  keep = noise_lib.uniform(audio_key, (size,)) >= config.drop_audio
  return types.Conditioning(
      reference=batch.reference,
      audio=batch.audio * path.expand(keep, batch.audio.ndim),
      continuity=batch.latents,
      mask=views.clean_mask(
          jnp.where(cold, 1, slots), size, latent_frames
      ),
  )


def flow_loss(
    params: types.Params,
    networks: variants.Networks,
    batch: types.TeacherBatch,
    key: jax.Array,
    config: ml_collections.ConfigDict,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Weighted velocity MSE of one batch (docs/method.md section 3), and logs.

  Args:
    params: of the diffusion transformer.
    networks: functions of the variant.
    batch: B windows of ground truth.
    key: noise level, noise and conditioning draws; one, or one per example.
    config: sections flow and conditioning.
  """
  batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
  level_key, noise_key, drop_key = noise_lib.split(key, 3)
  conditioning = draw_conditioning(
      batch, drop_key, networks.chunk.continuity_slots, config.conditioning
  )
  x0 = batch.latents
  sigma = path.sample_sigma(level_key, x0.shape[0], config.flow.shift)
  noise = noise_lib.normal(noise_key, x0.shape)
  x = samplers.hold_clean(path.add_noise(x0, noise, sigma), conditioning)
  v = networks.velocity(params, x, path.TIMESTEPS * sigma, conditioning)
  cells = losses.motion_weight(x0, config.flow.motion_weight)
  mse = losses.velocity_mse(
      v, path.velocity_target(x0, noise), conditioning.mask, cells
  )
  weight = losses.loss_weight(sigma, config.flow.weighting, config.flow.shift)
  loss = jnp.mean(weight * mse)
  return loss, {'loss': loss, 'velocity_mse': jnp.mean(mse)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """What stays fixed over the run.

  Attributes:
    networks: functions of the variant.
    config: of `configs/teacher.py`.
    tx: optimiser.
    schedule: its learning rate.
  """

  networks: variants.Networks
  config: ml_collections.ConfigDict
  tx: optax.GradientTransformation
  schedule: optax.Schedule


def build(
    networks: variants.Networks, config: ml_collections.ConfigDict
) -> Training:
  """The fixed part of a run.

  Raises:
    ValueError: bad optimiser section or remat policy.
  """
  tx, schedule = optimizer.build(config.optimizer)
  return Training(
      networks=variants.with_remat(networks, config.remat), config=config,
      tx=tx, schedule=schedule,
  )


def init_state(t: Training, key: jax.Array) -> state_lib.TrainState:
  """State at step 0."""
  return state_lib.TrainState.create(t.networks.init_dit(key), t.tx)


def train_step(
    t: Training,
    state: state_lib.TrainState,
    batch: types.TeacherBatch,
    key: jax.Array,
) -> tuple[state_lib.TrainState, dict[str, jax.Array]]:
  """One update."""
  keys = noise_lib.example_keys(key, batch.latents.shape[0])

  def gradient(rows):
    return jax.grad(flow_loss, has_aux=True)(
        state.params, t.networks, *rows, t.config
    )

  grads, logs = program.mean_over_microbatches(
      gradient, (batch, keys), t.config.microbatches
  )
  new = optimizer.descend(state, grads, t.tx, t.config.ema)
  norms = optimizer.norms(t.config.optimizer, grads, new.params)
  return new, dict(logs, lr=t.schedule(state.step)) | norms


def programs(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> list[program.Program]:
  """The step of a run on `mesh` as shapes, without data or memory.

  Raises:
    ValueError: a batch or tokens that the mesh does not divide.
  """
  networks = variants.build(model_values(config))
  t = build(networks, config)
  state = state_lib.abstract_sharded(
      functools.partial(init_state, t), mesh,
      state_lib.placement(config.host_memory), args=(jax.random.key(0),)
  )
  plan, audio = networks.chunk, networks.audio.config
  latents = plan.latent_shape
  features = (plan.frames, 5, audio.layers, audio.channels)
  batch = types.TeacherBatch(
      latents=latents, reference=latents, audio=features
  )
  shardings = jax.tree.map(lambda x: x.sharding, state)
  step = lambda t: functools.partial(train_step, t)
  plain = config.copy_and_resolve_references()
  plain.update(remat='none', microbatches=1)
  return [
      program.Program(
          name='teacher',
          function=program.jit_step(step(t), shardings, mesh),
          args=(
              state,
              program.abstract_batch(batch, config, mesh),
              program.abstract_key(mesh),
          ),
          trips={},
          examples=config.batch_size,
          plain=lambda: program.keyed(step(build(networks, plain)), 0),
      )
  ]


def train(
    config: ml_collections.ConfigDict, data: str, workdir: str
) -> loop.Result:
  """Trains a teacher on an encoded dataset; writes `workdir/bundle`.

  Args:
    config: of `configs/teacher.py`.
    data: folder of `asymtalker data encode`, which holds the VAE as well.
    workdir: checkpoints, metrics and samples; continued where it exists.

  Raises:
    ValueError, FileNotFoundError: bad config or data, before any compilation.
  """
  vae = bundle_lib.load(
      os.path.join(data, encode_dataset.VAE_FOLDER), parts=('vae', 'audio')
  )
  values = model_values(config)
  start_lib.check_variant(vae, data, config.variant)
  # The latents and features are those of the folder's networks.
  values |= {k: vae.networks.values[k] for k in ('chunk', 'vae', 'audio')}
  values['reference_encoding'] = encode_dataset.reference_encoding_of(data)
  networks = variants.build(values)
  t = build(networks, config)
  mesh = mesh_lib.make_mesh(**config.mesh)
  sharding.check_batch_size(config.batch_size, mesh, config.microbatches)
  options = dict(
      in_memory=config.in_memory,
      rows=sharding.process_rows(config.batch_size, mesh),
  )
  batches = loader.teacher_batches(
      data, networks.chunk, config.batch_size, config.seed, **options
  )
  held_out = next(
      loader.teacher_batches(
          data, networks.chunk, 8, config.seed, split='test', shuffle=False,
          threads=0,
      )
  )

  evaluation = Evaluation(networks, vae.params['vae'], held_out, config)
  result = loop.train(
      config, workdir, functools.partial(init_state, t),
      {'teacher': functools.partial(train_step, t)}, batches,
      init_args=lambda: (jax.random.key(config.seed),), mesh=mesh,
      job=loop.Job(
          part='teacher', tokens=throughput.tokens_of(networks),
          sources={'data': encoded.open_encoded(data, 'train').fingerprint},
          programs=functools.partial(programs, config, mesh),
      ),
      on_eval=lambda state, step, writer: evaluation(state.ema, step, writer),
  )
  if not result.at_end:
    return result
  average = sharding.to_host(result.state.ema)
  if jax.process_index() == 0:
    bundle_lib.save(
        os.path.join(workdir, loop.BUNDLE), variant=config.variant,
        model=networks.values, params=dict(vae.params, teacher=average),
        sampler=dict(shift=config.flow.shift), origin=vae.origin,
    )
  return result


def held_out_loss(
    networks: variants.Networks,
    config: ml_collections.ConfigDict,
    params: types.Params,
    batch: types.TeacherBatch,
    key: jax.Array,
) -> dict[str, jax.Array]:
  """Logs of `flow_loss` over B windows, one at a time: every device computes
  all of them, and has room for one beside the state of a training."""
  windows = batch.latents.shape[0]
  return program.mean_over_microbatches(
      lambda rows: flow_loss(params, networks, *rows, config)[1],
      (batch, noise_lib.example_keys(key, windows)), windows,
  )


class Evaluation:
  """Held-out loss and one guided sample, drawn the same way every time."""

  def __init__(self, networks, vae_params, batch, config):
    self._decode = jax.jit(networks.decode_video)
    self._vae, self._batch, self._networks = vae_params, batch, networks
    self._shift = config.flow.shift
    self._loss = jax.jit(functools.partial(held_out_loss, networks, config))
    self._sample = jax.jit(self._draw)

  def _draw(self, params, one):
    plan = self._networks.chunk
    conditioning = types.Conditioning(
        reference=one.reference, audio=one.audio, continuity=one.latents,
        mask=views.clean_mask(plan.continuity_slots, 1, plan.latent_frames),
    )
    velocity = samplers.guided(self._networks.bind_velocity(params), 3.0)
    noise = jax.random.normal(jax.random.key(0), one.latents.shape)
    sigmas = path.shifted_sigmas(np.linspace(1000, 1, 20), self._shift)
    return samplers.euler(velocity, conditioning, sigmas, noise)

  def __call__(self, params, step, writer) -> dict[str, float]:
    """Writes a sample beside the ground truth; returns mean losses."""
    losses_of = [
        self._loss(params, self._batch, jax.random.key(i)) for i in range(4)
    ]
    sample = self._draw_and_decode(params)
    writer.video(step, 'sample', sample)
    if step == 0 or not getattr(self, '_truth_written', False):
      truth = self._decode(self._vae, jnp.asarray(self._batch.latents[:1]))
      writer.video(step, 'ground_truth', sharding.to_host(truth)[0])
      self._truth_written = True
    names = losses_of[0].keys()
    return {
        'eval/' + n: float(np.mean([l[n] for l in losses_of])) for n in names
    }

  def _draw_and_decode(self, params):
    one = jax.tree.map(lambda x: x[:1], self._batch)
    sample = self._decode(self._vae, self._sample(params, one))
    return sharding.to_host(sample)[0]
