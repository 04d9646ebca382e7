"""Training of the teacher: flow matching on ground-truth continuity."""

import os

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import types
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import losses, path, samplers
from asymtalker_jax.inputs import loader
from asymtalker_jax.models import variants
from asymtalker_jax.train import encode_dataset
from asymtalker_jax.train import loop
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib


def draw_conditioning(
    batch: types.TeacherBatch,
    key: jax.Array,
    slots: int,
    config: ml_collections.ConfigDict,
) -> types.Conditioning:
  """Ground-truth conditioning with cold starts and dropped audio.

  Args:
    batch: B windows.
    key: of the two draws per example.
    slots: m continuity slots; a cold start holds only slot 0.
    config: probabilities cold_start and drop_audio.
  """
  cold_key, audio_key = jax.random.split(key)
  size, latent_frames = batch.latents.shape[:2]
  cold = jax.random.bernoulli(cold_key, config.cold_start, (size,))
  keep = jax.random.bernoulli(audio_key, 1.0 - config.drop_audio, (size,))
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
  """Weighted velocity MSE of one batch (method.md section 3), and logs.

  Args:
    params: of the diffusion transformer.
    networks: functions of the variant.
    batch: B windows of ground truth.
    key: noise level, noise and conditioning draws.
    config: sections flow and conditioning.
  """
  batch = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
  level_key, noise_key, drop_key = jax.random.split(key, 3)
  conditioning = draw_conditioning(
      batch, drop_key, networks.chunk.continuity_slots, config.conditioning
  )
  x0 = batch.latents
  sigma = path.sample_sigma(level_key, x0.shape[0], config.flow.shift)
  noise = jax.random.normal(noise_key, x0.shape)
  x = samplers.hold_clean(path.add_noise(x0, noise, sigma), conditioning)
  v = networks.velocity(params, x, path.TIMESTEPS * sigma, conditioning)
  cells = losses.motion_weight(x0, config.flow.motion_weight)
  mse = losses.velocity_mse(
      v, path.velocity_target(x0, noise), conditioning.mask, cells
  )
  weight = losses.loss_weight(sigma, config.flow.weighting, config.flow.shift)
  loss = jnp.mean(weight * mse)
  return loss, {'loss': loss, 'velocity_mse': jnp.mean(mse)}


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
  vae = bundle_lib.load(os.path.join(data, encode_dataset.VAE_FOLDER), parts=('vae', 'audio'))
  networks = variants.build(variants.values_of(config.variant))
  tx, schedule = optimizer.build(config.optimizer)
  options = dict(in_memory=config.in_memory)
  batches = loader.teacher_batches(
      data, networks.chunk, config.batch_size, config.seed, **options
  )
  held_out = next(
      loader.teacher_batches(
          data, networks.chunk, 8, config.seed, split='test', shuffle=False,
          threads=0,
      )
  )

  def init(key):
    return state_lib.TrainState.create(networks.init_dit(key), tx)

  def step(state, batch, key):
    grads, logs = jax.grad(flow_loss, has_aux=True)(
        state.params, networks, batch, key, config
    )
    new = optimizer.descend(state, grads, tx, config.ema)
    return new, dict(
        logs, lr=schedule(state.step), gradient=optax.tree.norm(grads)
    )

  evaluation = Evaluation(networks, vae.params['vae'], held_out, config)
  result = loop.train(
      config, workdir, init, step, batches,
      init_args=(jax.random.key(config.seed),),
      on_eval=lambda state, step, writer: evaluation(state.ema, step, writer),
  )
  bundle_lib.save(
      os.path.join(workdir, 'bundle'), variant=config.variant,
      model=networks.values,
      params=dict(vae.params, teacher=result.state.ema),
  )
  return result


class Evaluation:
  """Held-out loss and one guided sample, drawn the same way every time."""

  def __init__(self, networks, vae_params, batch, config):
    self._decode = jax.jit(networks.decode_video)
    self._vae, self._batch, self._networks = vae_params, batch, networks
    self._loss = jax.jit(
        lambda params, key: flow_loss(params, networks, batch, key, config)[1]
    )
    self._sample = jax.jit(self._draw)

  def _draw(self, params):
    plan = self._networks.chunk
    one = jax.tree.map(lambda x: jnp.asarray(x[:2]), self._batch)
    conditioning = types.Conditioning(
        reference=one.reference, audio=one.audio, continuity=one.latents,
        mask=views.clean_mask(plan.continuity_slots, 2, plan.latent_frames),
    )
    velocity = samplers.guided(self._networks.bind_velocity(params), 3.0)
    noise = jax.random.normal(jax.random.key(0), one.latents.shape)
    sigmas = path.shifted_sigmas(np.linspace(1000, 1, 20), 5.0)
    return samplers.euler(velocity, conditioning, sigmas, noise)

  def __call__(self, params, step, writer) -> dict[str, float]:
    """Writes a sample beside the ground truth; returns mean losses."""
    losses_of = [self._loss(params, jax.random.key(i)) for i in range(4)]
    sample = self._draw_and_decode(params)
    writer.video(step, 'sample', sample)
    if step == 0 or not getattr(self, '_truth_written', False):
      truth = self._decode(self._vae, jnp.asarray(self._batch.latents[:1]))[0]
      writer.video(step, 'ground_truth', np.asarray(truth))
      self._truth_written = True
    names = losses_of[0].keys()
    return {
        'eval/' + n: float(np.mean([l[n] for l in losses_of])) for n in names
    }

  def _draw_and_decode(self, params):
    return np.asarray(self._decode(self._vae, self._sample(params)[:1])[0])
