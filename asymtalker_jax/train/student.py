"""Asymmetric distillation of a teacher: the loop (docs/method.md, section 5).

A step of the loop is one update: of the student, then `critic_updates` of the
critic, and so on, each on a batch of its own. The updates are in
`distillation.py`.
"""

import functools
import os

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import rollout
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import samplers
from asymtalker_jax.inputs import encoded
from asymtalker_jax.inputs import loader
from asymtalker_jax.models import variants
from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import distillation
from asymtalker_jax.train import encode_dataset
from asymtalker_jax.train import loop
from asymtalker_jax.train import program
from asymtalker_jax.train import start as start_lib
from asymtalker_jax.train import state as state_lib
from asymtalker_jax.train import throughput


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
  start_lib.check_variant(source, teacher, config.variant)
  networks = source.networks
  known = networks.values['reference_encoding']
  found = encode_dataset.reference_encoding_of(data)
  if known != found:
    raise ValueError(
        f'{data}: encoded with reference_encoding {found!r}; the teacher'
        f' {teacher} expects {known!r}'
    )
  encode_dataset.check_vae(data, source.params['vae'])
  d = distillation.build(networks, config)
  mesh = mesh_lib.make_mesh(**config.mesh)
  sharding.check_batch_size(config.batch_size, mesh, config.microbatches)
  put = lambda part: sharding.put_parameters(source.params[part], mesh)
  frozen = dict(
      vae=put('vae'),
      teacher=distillation.freeze(put('teacher'), config.frozen_dtype),
  )
  batches = loader.student_batches(
      data, networks.chunk, config.chunks, config.batch_size, config.seed,
      in_memory=config.in_memory,
      rows=sharding.process_rows(config.batch_size, mesh),
  )
  held_out = next(
      loader.student_batches(
          data, networks.chunk, config.chunks, 1, config.seed, split='test',
          shuffle=False, threads=0,
      )
  )

  period = 1 + config.distillation.critic_updates
  result = loop.train(
      config, workdir, functools.partial(distillation.init_state, d),
      distillation.steps(d), batches,
      # Made for the start and let go of: what stays is in `frozen_dtype`.
      init_args=lambda: (put('teacher'),), frozen=frozen,
      pick=lambda step: 'generator' if step % period == 0 else 'critic',
      on_eval=Evaluation(d, frozen, held_out), mesh=mesh,
      job=loop.Job(
          part='dit', tokens=throughput.tokens_of(networks),
          sources={
              'data': encoded.open_encoded(data, 'train').fingerprint,
              'teacher': source.config['sha256'].get('teacher', teacher),
          },
          programs=functools.partial(programs, config, mesh),
      ),
  )
  if not result.at_end:
    return result
  average = sharding.to_host(result.state.ema)
  if jax.process_index() == 0:
    bundle_lib.save(
        os.path.join(workdir, loop.BUNDLE), variant=config.variant,
        model=networks.values, params=dict(source.params, dit=average),
        sampler=dict(
            timesteps=list(config.sampler.timesteps), shift=config.flow.shift,
            continuity_carry=config.continuity_carry,
            color_correction=config.sampler.color_correction,
        ),
        origin=source.origin,
    )
  return result


def programs(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> list[program.Program]:
  """The two updates of a run on `mesh` as shapes, without data or memory.

  Raises:
    ValueError: a batch or tokens that the mesh does not divide.
  """
  networks = variants.build(variants.values_of(config.variant))
  d = distillation.build(networks, config)
  plan, audio = networks.chunk, networks.audio.config
  latents, chunks = plan.latent_shape, config.chunks
  batch = types.StudentBatch(
      latents=(chunks, *latents), reference=latents,
      audio=(chunks, plan.frames, 5, audio.layers, audio.channels),
  )
  key = jax.random.key(0)
  start = state_lib.abstract_sharded(networks.init_dit, mesh, args=(key,))
  freeze = functools.partial(distillation.freeze, dtype=config.frozen_dtype)
  frozen = {
      'vae': state_lib.abstract_sharded(networks.init_vae, mesh, args=(key,)),
      'teacher': state_lib.abstract_sharded(freeze, mesh, args=(start,)),
  }
  state = state_lib.abstract_sharded(
      functools.partial(distillation.init_state, d), mesh,
      state_lib.placement(config.host_memory), args=(start,)
  )
  shardings = jax.tree.map(lambda x: x.sharding, state)
  args = (
      state, program.abstract_batch(batch, config, mesh),
      program.abstract_key(mesh), frozen,
  )
  plain = config.copy_and_resolve_references()
  plain.update(remat='none', microbatches=1)

  def plain_step(name, stream):
    step = distillation.steps(distillation.build(networks, plain))[name]
    return program.keyed(step, stream)

  return [
      program.Program(
          name=name, function=program.jit_step(step, shardings, mesh, stream),
          args=args, trips=distillation.mean_trips(d),
          examples=config.batch_size,
          plain=functools.partial(plain_step, name, stream),
      )
      for stream, (name, step) in enumerate(distillation.steps(d).items())
  ]


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
    batch = distillation.float32(self._batch)
    continuity = rollout.cold_start(batch.reference)
    chunks = []
    for j in range(batch.latents.shape[1]):
      latents, continuity = self._chunk(
          state.ema, self._frozen, batch, jnp.asarray(j), continuity
      )
      chunks.append(latents)
    vae = self._frozen['vae']
    video = lambda parts: np.concatenate(
        [sharding.to_host(self._decode(vae, x))[0, ::2] for x in parts]
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
