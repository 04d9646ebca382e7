"""Training of the video VAE: reconstruction with a small KL term."""

import functools
import itertools
import os

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from asymtalker_jax import bundle
from asymtalker_jax import types
from asymtalker_jax.inputs import loader
from asymtalker_jax.inputs import source
from asymtalker_jax.models import variants
from asymtalker_jax.models import wan_vae
from asymtalker_jax.train import loop
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib


def reconstruction_loss(
    params: types.Params,
    vae: wan_vae.WanVae,
    video: jax.Array,
    key: jax.Array,
    config: ml_collections.ConfigDict,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Loss of one batch and the scalars to log.

  Absolute error of pixels and of their spatial differences (edges), weighted up
  where the video moves: mouths are small, backgrounds are large.

  Args:
    params: of the VAE.
    vae: module.
    video: [B, F, H, W, 3] in [-1, 1].
    key: posterior noise.
    config: kl_weight, edge_weight, motion_weight.
  """
  mean, logvar = vae.apply({'params': params}, video, method='moments')
  noise = jax.random.normal(key, mean.shape)
  latents = mean + jnp.exp(0.5 * logvar) * noise
  # Latent statistics are 0 and 1 until training has ended, so that decode
  # takes the posterior sample itself.
  decoded = vae.apply(
      {'params': params}, latents, clamp=False, method='decode'
  )
  error = jnp.abs(decoded - video)
  weight = motion_weight(video, config.motion_weight)
  pixels = jnp.mean(weight * error)
  edges = sum(
      jnp.mean(jnp.abs(jnp.diff(decoded - video, axis=axis)))
      for axis in (2, 3)
  )
  kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(logvar) - logvar - 1.0)
  total = pixels + config.edge_weight * edges + config.kl_weight * kl
  mse = jnp.mean(jnp.square(jnp.clip(decoded, -1, 1) - video))
  return total, {
      'loss': total,
      'pixels': pixels,
      'edges': edges,
      'kl': kl,
      'psnr': 10 * jnp.log10(4.0 / mse),
  }


def initial_params(
    networks: variants.Networks, key: jax.Array
) -> types.Params:
  """Random parameters from which training gets off the ground quickly.

  Residual branches start at a tenth, so that the network is nearly linear, and
  the posterior starts narrow (log-variance -6), so that the decoder sees the
  image from the first step on instead of noise.
  """
  params = networks.init_vae(key)
  channels = networks.chunk.latent_channels
  bias = params['posterior']['bias'].at[channels:].set(-6.0)
  params['posterior'] = dict(params['posterior'], bias=bias)

  def shrink(path, x):
    branch = any(getattr(k, 'key', '') in ('conv2', 'proj') for k in path)
    return 0.1 * x if branch else x

  return jax.tree_util.tree_map_with_path(shrink, params)


def motion_weight(video: jax.Array, strength: float) -> jax.Array:
  """Weight [B, F, H, W, 1] with mean 1, larger where pixels change in time."""
  change = jnp.abs(video - video.mean(1, keepdims=True)).mean(-1, keepdims=True)
  weight = 1.0 + strength * change / (change.mean() + 1e-3)
  return weight / weight.mean()


@functools.partial(jax.jit, static_argnames='vae')
def latent_statistics(
    params: types.Params, vae: wan_vae.WanVae, video: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """First and second moments [C] of the posterior means of a batch."""
  mean, _ = vae.apply({'params': params}, video, method='moments')
  axes = tuple(range(mean.ndim - 1))
  return mean.mean(axes), jnp.square(mean).mean(axes)


def set_latent_statistics(
    params: types.Params, moments: list[tuple[jax.Array, jax.Array]]
) -> types.Params:
  """Parameters whose encoder output has mean 0 and variance 1 per channel."""
  first = jnp.mean(jnp.stack([m for m, _ in moments]), 0)
  second = jnp.mean(jnp.stack([s for _, s in moments]), 0)
  std = jnp.sqrt(second - jnp.square(first))
  return dict(params, latent_mean=first, latent_std=std)


def train(
    config: ml_collections.ConfigDict, data: str, workdir: str
) -> loop.Result:
  """Trains a VAE on the clips of a dataset; writes `workdir/bundle`.

  Args:
    config: of `configs/vae.py`.
    data: folder of `asymtalker data build`.
    workdir: checkpoints, metrics and samples; continued where it exists.

  Raises:
    ValueError, FileNotFoundError: bad config or data, before any compilation.
  """
  values = variants.values_of(config.variant)
  networks = variants.build(values)
  tx, schedule = optimizer.build(config.optimizer)
  clips = source.open_clips(data, 'train')[: config.clips]
  batches = loader.clip_batches(
      clips, config.frames, config.batch_size, config.seed, in_memory=True
  )

  def init(key):
    return state_lib.TrainState.create(initial_params(networks, key), tx)

  def step(state, batch, key):
    grads, logs = jax.grad(reconstruction_loss, has_aux=True)(
        state.params, networks.vae, batch['video'], key, config
    )
    new = optimizer.descend(state, grads, tx, config.ema)
    norms = optimizer.norms(config.optimizer, grads, new.params)
    return new, dict(logs, lr=schedule(state.step)) | norms

  # Whole chunks: a VAE that only knows short clips fails in later slots.
  windows = functools.partial(
      loader.clip_batches, frames=networks.chunk.frames, seed=config.seed
  )
  held_out = next(
      windows(source.open_clips(data, 'test'), batch_size=2, shuffle=False)
  )['video']
  result = loop.train(
      config, workdir, init, step, batches,
      init_args=lambda: (jax.random.key(config.seed),),
      on_eval=functools.partial(_evaluate, networks, held_out),
      job=loop.Job(
          part='vae', sources={'data': source.fingerprint(clips)}
      ),
  )
  if not result.at_end:
    return result
  chunks = itertools.islice(
      windows(clips, batch_size=1), config.statistics_batches
  )
  moments = [
      latent_statistics(result.state.ema, networks.vae, b['video'])
      for b in chunks
  ]
  bundle.save(
      os.path.join(workdir, loop.BUNDLE), variant=config.variant, model=values,
      params={'vae': set_latent_statistics(result.state.ema, moments)},
  )
  return result


def _evaluate(networks, video, state, step, writer) -> dict[str, float]:
  """Reconstruction of held-out chunks [B, F, H, W, 3], by latent slot."""
  decoded = np.asarray(_reconstruct(state.ema, networks, video))
  writer.video(step, 'input', video[0])
  writer.video(step, 'reconstruction', decoded[0])
  error = np.square(decoded - video)
  psnr = lambda e: float(10 * np.log10(4 / e.mean()))
  last = networks.chunk.temporal_stride
  return {
      'eval/psnr': psnr(error),
      'eval/psnr_first_frame': psnr(error[:, :1]),
      'eval/psnr_last_slot': psnr(error[:, -last:]),
  }


@functools.partial(jax.jit, static_argnames='networks')
def _reconstruct(params, networks, video):
  return networks.decode_video(params, networks.encode_video(params, video))
