"""The outputs of golden files of the video autoencoders: Wan and LTX."""

import functools
from typing import Any

import jax
import numpy as np

from asymtalker_jax.convert import configs
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae as wan_layouts
from asymtalker_jax.models import ltx_vae
from asymtalker_jax.models import wan_vae
from asymtalker_jax.parity import golden as golden_lib
from asymtalker_jax.parity.transformers import channels_first
from asymtalker_jax.parity.transformers import channels_last


@functools.partial(
    jax.jit, static_argnums=(0, 1, 2), static_argnames='clamp'
)
def call(module, config, method: str, params, *args, **kwargs):
  """A method of a flax module, compiled once per shape."""
  return module(config).apply(
      {'params': params}, *args, **kwargs, method=method
  )


def _batched(latents: np.ndarray) -> np.ndarray:
  """Recorded latents, whose batch of one may be missing, channels last."""
  return channels_last(latents.reshape(-1, *latents.shape[-4:]))


def _motion(golden, video: np.ndarray, stride: int) -> np.ndarray:
  """The last frames of the first video, behind `out.motion_latent`."""
  slots = golden['out.motion_latent'].shape[-3]
  return video[:1, -(1 + (slots - 1) * stride) :]


def _whole_steps(video: np.ndarray, stride: int) -> np.ndarray:
  """Without the last frames that fill no latent frame, as Wan drops them."""
  return video[:, : 1 + (video.shape[1] - 1) // stride * stride]


def wan_vae_original(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of FlashHead's `WanVAE`, the layout of Wan2.1_VAE.pth."""
  config = golden.at_precision(configs.wan_vae_sizes(golden.config))
  statistics = ()
  if 'scale_mean' in golden.meta:
    std = 1.0 / np.asarray(golden.meta['scale_inv_std'])
    statistics = (golden.meta['scale_mean'], std)
  params = rules.convert(
      golden.weights(),
      wan_layouts.original_table(config, *statistics),
      wan_layouts.targets(config),
  )
  run = functools.partial(call, wan_vae.WanVae, config)
  video = channels_last(golden['in.video'])
  whole = _whole_steps(video, config.temporal_stride)
  found = {
      'latent': run('encode', params, whole),
      'log_var': run('moments', params, whole)[1],
      'first_frame_latent': run('encode', params, video[:1, :1]),
      'motion_latent': run(
          'encode', params, _motion(golden, video, config.temporal_stride)
      ),
  }
  raw = run('decode', params, _batched(golden['out.latent']), clamp=False)
  found['decoded_unclamped'] = raw
  found['decoded'] = np.clip(raw, -1, 1)
  return {name: channels_first(value) for name, value in found.items()}


def wan_vae_diffusers(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of diffusers' `AutoencoderKLWan`."""
  config = golden.at_precision(configs.wan_vae_sizes(golden.config))
  table = wan_layouts.diffusers_table(
      config, golden.config['latents_mean'], golden.config['latents_std']
  )
  params = rules.convert(golden.weights(), table, wan_layouts.targets(config))
  run = functools.partial(call, wan_vae.WanVae, config)
  video = channels_last(golden['in.video'])
  whole = _whole_steps(video, config.temporal_stride)
  mean, logvar = run('moments', params, whole)
  latents = run('encode', params, whole)
  found = {
      'latent_mean': mean,
      'latent_logvar': logvar,
      'first_frame_latent_mean': run('moments', params, video[:, :1])[0],
      'latent_normalized': latents,
      'decoded': run(
          'decode', params, channels_last(golden['out.latent_normalized'])
      ),
  }
  return {name: channels_first(value) for name, value in found.items()}


def _ltx(golden: golden_lib.Golden, make_table):
  config = golden.at_precision(ltx_layouts.config_of(golden.config))
  params = rules.convert(
      golden.weights(), make_table(config), ltx_layouts.targets(config)
  )
  return config, params, functools.partial(call, ltx_vae.LtxVae, config)


def ltx_vae_original(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of FlashHead's `LtxVAE` or of its timestep-conditioned network."""
  config, params, run = _ltx(golden, ltx_layouts.original_table)
  video = channels_last(golden['in.video'])
  both = video
  if len(golden['out.moments_mean']) == 2 * len(video):
    both = np.concatenate([video, video[:, :, :, ::-1]])
  mean, logvar = run('moments', params, both)
  found = {'moments_mean': mean, 'moments_logvar': logvar}
  latents = _batched(golden['out.latent'])
  if config.timestep_conditioning:
    draws = sorted(k for k in golden.tensors if k.startswith('noise.decode_'))
    found['latent'] = run('normalise', params, mean[: len(video)])
    found['decoded'] = run(
        'decode', params, latents, golden['in.timestep'],
        [golden[name] for name in draws], clamp=False,
    )  # pyformat: disable
  else:
    found |= _ltx_wrapper(golden, config, params, run, video)
    found['decoded'] = run('decode', params, latents, clamp=False)
    found['decoded_first_frame'] = run(
        'decode', params, latents[:, :1], clamp=False
    )
  return {name: channels_first(value) for name, value in found.items()}


def _ltx_wrapper(golden, config, params, run, video) -> dict[str, Any]:
  """Posterior samples of `LtxVAE.encode`, which takes one video only."""
  if 'noise.encode_eps' not in golden.tensors:
    return {'latent': run('encode', params, video)}
  whole = channels_last(golden['noise.encode_eps'])
  found = {'latent': run('encode', params, video[:1], whole)}
  if 'noise.motion_eps' in golden.tensors:
    motion = _motion(golden, video, config.temporal_stride)
    noise = channels_last(golden['noise.motion_eps'])
    found['motion_latent'] = run('encode', params, motion, noise)
  return found


def ltx_vae_diffusers(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of diffusers' `AutoencoderKLLTXVideo`."""
  _, params, run = _ltx(golden, ltx_layouts.diffusers_table)
  video = channels_last(golden['in.video'])
  mean, logvar = run('moments', params, video)
  latents = channels_last(golden['out.latent_normalized'])
  found = {
      'latent_mean': mean,
      'latent_logvar': logvar,
      'latent_normalized': run('encode', params, video),
      'decoded': run('decode', params, latents, clamp=False),
  }
  return {name: channels_first(value) for name, value in found.items()}
