"""The video autoencoders against diffusers, both ways through the tables."""

import functools

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import ltx_vae as ltx_layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae as wan_layouts
from asymtalker_jax.models import ltx_vae
from asymtalker_jax.models import variants
from asymtalker_jax.models import wan_vae
from tests.parity_live import reference

diffusers = reference.package('diffusers')


def wan(**sizes):
  """(diffusers' model, our function of a method and a video or latents)."""
  model = reference.randomise(diffusers.AutoencoderKLWan(**sizes))
  config = configs.wan_vae_sizes(model.config)
  table = wan_layouts.diffusers_table(
      config, model.config.latents_mean, model.config.latents_std
  )
  return model, ours(wan_vae.WanVae, config, rules.convert(
      reference.weights(model), table, wan_layouts.targets(config)
  ))


def ltx(**sizes):
  """As `wan`, for LTX 0.9.0."""
  model = reference.randomise(diffusers.AutoencoderKLLTXVideo(**sizes))
  config = ltx_layouts.config_of(model.config)
  return model, ours(ltx_vae.LtxVae, config, rules.convert(
      reference.weights(model), ltx_layouts.diffusers_table(config),
      ltx_layouts.targets(config),
  ))


def ours(module, config, params):
  def call(method, x):
    x = np.moveaxis(np.asarray(x), 1, -1)
    found = jax.jit(functools.partial(module(config).apply, method=method))(
        {'params': params}, x
    )
    found = found[0] if method == 'moments' else found
    return np.moveaxis(found, -1, 1)

  return call


def compare(model, call, video, statistics):
  """Posterior mean, and decoding of normalised latents; ours is clamped."""
  mean, std = (np.float32(s).reshape(-1, 1, 1, 1) for s in statistics)
  latents = reference.run(
      model, lambda m, cast: m.encode(cast(video)).latent_dist.mean
  )
  reference.check(call('moments', video), latents)
  normalised = 0.5 * reference.normal(*latents[0].shape)
  reference.check(call('decode', normalised), reference.run(
      model, lambda m, cast: m.decode(
          cast(normalised * std + mean), return_dict=False
      )[0].clamp(-1, 1)
  ))


@pytest.mark.parametrize('sizes, shape', [
    (dict(base_dim=4, dim_mult=[1, 2], num_res_blocks=1,
          temperal_downsample=[True]), (1, 3, 5, 8, 12)),
    (dict(base_dim=6, dim_mult=[1, 2, 4, 4], num_res_blocks=2,
          temperal_downsample=[False, True, True]), (2, 3, 9, 24, 16)),
])
def test_wan_equals_diffusers(sizes, shape):
  z = 16
  mean, std = np.linspace(-1, 1, z).tolist(), np.linspace(1, 3, z).tolist()
  model, call = wan(z_dim=z, latents_mean=mean, latents_std=std, **sizes)
  compare(model, call, np.clip(reference.normal(*shape), -1, 1), (mean, std))


@pytest.mark.parametrize('widths, layers, scaling, shape', [
    ((8, 16), (1, 1, 1), (True, False), (1, 3, 9, 16, 24)),
    ((8, 16, 24, 24), (2, 1, 1, 1, 2), (True, True, True, False),
     (2, 3, 17, 64, 32)),
])
def test_ltx_equals_diffusers(widths, layers, scaling, shape):
  model, call = ltx(
      block_out_channels=widths, decoder_block_out_channels=widths,
      layers_per_block=layers, decoder_layers_per_block=layers,
      spatio_temporal_scaling=scaling, decoder_spatio_temporal_scaling=scaling,
      down_block_types=('LTXVideoDownBlock3D',) * len(widths),
      decoder_inject_noise=(False,) * len(layers),
      upsample_residual=(False,) * len(widths),
      upsample_factor=(1,) * len(widths), latent_channels=12, patch_size=2,
  )
  statistics = model.latents_mean.numpy(), model.latents_std.numpy()
  compare(model, call, np.clip(reference.normal(*shape), -1, 1), statistics)


@pytest.mark.parametrize('variant', ['pro', 'lite'])
def test_exported_vae_loads_in_diffusers(variant, tmp_path):
  values = variants.values_of(variant)
  values['vae'] |= dict(dtype='float32')
  if variant == 'pro':
    values['vae'] |= dict(base_channels=4)
    kind = diffusers.AutoencoderKLWan
  else:
    values['vae'] |= dict(encoder_base_channels=8, decoder_base_channels=8)
    kind = diffusers.AutoencoderKLLTXVideo
  networks = variants.build(values)
  shapes = jax.eval_shape(networks.init_vae, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = {'vae': jax.tree.map(
      lambda s: 0.1 * rng.standard_normal(s.shape, np.float32), shapes
  )}
  params['vae']['latent_std'] = np.full_like(params['vae']['latent_std'], 2)
  bundle.save(tmp_path / 'b', variant='x', model=values, params=params)
  assert cli.main(['export', f'--bundle={tmp_path}/b', f'--out={tmp_path}/d',
                   '--format=diffusers-vae']) == 0
  model, found = kind.from_pretrained(tmp_path / 'd', output_loading_info=True)
  assert not any(found.values()), found
  video = np.clip(reference.normal(1, 3, 9, 32, 64), -1, 1)
  theirs = reference.run(
      model, lambda m, cast: m.encode(cast(video)).latent_dist.mean
  )
  call = ours(type(networks.vae), networks.vae.config, params['vae'])
  reference.check(call('moments', video), theirs)
