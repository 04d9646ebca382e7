"""Both public layouts of the LTX VAE, at the golden's and at full size."""

import ast

import jax
import numpy as np
import pytest

from asymtalker_jax.convert import ltx_vae as layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.models import ltx_vae
from tests import golden_file

FULL = ltx_vae.LtxVaeConfig()
DIFFUSERS_0_9_0 = {
    'block_out_channels': [128, 256, 512, 512],
    'latent_channels': 128,
    'layers_per_block': [4, 3, 3, 3, 4],
    'patch_size': 4,
    'spatio_temporal_scaling': [True, True, True, False],
}


def published(layout):
  """Key -> shape of the released checkpoint."""
  path = golden_file.FOLDER / 'keys' / f'ltx_0.9.0_vae_{layout}.txt'
  lines = path.read_text().splitlines()
  pairs = [line.split('\t') for line in lines if not line.startswith('#')]
  return {key: tuple(ast.literal_eval(shape)) for key, shape in pairs}


def hollow(shapes):
  """Broadcast zeros: 419 million parameters without their memory."""
  return {k: np.broadcast_to(np.float32(0), s) for k, s in shapes.items()}


def table_of(name, config):
  diffusers = name == 'diffusers'
  make = layouts.diffusers_table if diffusers else layouts.original_table
  return make(config)


@pytest.mark.parametrize('name', ['orig', 'orig_ts', 'diffusers'])
def test_export_gives_back_every_bit_of_the_checkpoint(name):
  golden = golden_file.load(f'ltx_vae_{name}')
  config = layouts.config_of(golden.meta['config'])
  table, weights = table_of(name, config), golden.weights()
  params = rules.convert(weights, table, layouts.targets(config))
  exported = rules.export(params, table)
  assert exported.keys() == weights.keys()
  for key, tensor in weights.items():
    np.testing.assert_array_equal(exported[key], tensor, err_msg=key)


@pytest.mark.parametrize('layout', ['original', 'diffusers'])
def test_every_key_of_the_published_checkpoint_has_its_place(layout):
  shapes = published(layout)
  assert len(shapes) == 190
  targets = layouts.targets(FULL)
  rules.convert(hollow(shapes), table_of(layout, FULL), targets)
  count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(targets))
  assert count == sum(np.prod(shape) for shape in shapes.values()) == 419193905


def test_both_layouts_give_the_same_parameters():
  golden = golden_file.load('ltx_vae_orig')
  config = layouts.config_of(golden.meta['config'])
  targets = layouts.targets(config)
  original = layouts.original_table(config)
  params = rules.convert(golden.weights(), original, targets)
  diffusers = layouts.diffusers_table(config)
  again = rules.convert(rules.export(params, diffusers), diffusers, targets)
  for path, value in rules.flatten(params).items():
    np.testing.assert_array_equal(rules.flatten(again)[path], value)


def test_a_single_file_release_is_read_through_its_prefix():
  golden = golden_file.load('ltx_vae_orig')
  config = layouts.config_of(golden.meta['config'])
  weights = {'vae.' + k: v for k, v in golden.weights().items()}
  unread = {
      'vae.per_channel_statistics.mean-of-stds': np.ones(12),
      'vae.per_channel_statistics.std-of-means_over_more': np.ones(12),
      'model.diffusion_model.patchify_proj.bias': np.ones(3),
  }
  table = layouts.original_table(config, prefix='vae.')
  targets = layouts.targets(config)
  params = rules.convert(weights | unread, table, targets)
  assert rules.export(params, table).keys() == weights.keys()


def test_a_missing_layer_is_named():
  shapes = published('diffusers')
  del shapes['decoder.up_blocks.2.conv_in.norm3.bias']
  with pytest.raises(ValueError, match='decoder/block_4/norm3/bias'):
    rules.convert(
        hollow(shapes), layouts.diffusers_table(FULL), layouts.targets(FULL)
    )


def test_the_published_diffusers_config_is_ltx_0_9_0():
  # The one list of blocks also reads as two.
  blocks = golden_file.load('ltx_vae_orig').meta['config']['blocks']
  values = {
      'dims': 3,
      'norm_layer': 'pixel_norm',
      'latent_log_var': 'uniform',
      'use_quant_conv': False,
      'latent_channels': 128,
      'patch_size': 4,
  }
  one = layouts.config_of(values | {'blocks': blocks})
  two = layouts.config_of(
      values | {'encoder_blocks': blocks, 'decoder_blocks': blocks}
  )
  assert one == two
  # The golden has one layer where the release has 3 or 4, and a width factor
  # of 2 where diffusers gives the widths.
  assert layouts.config_of(DIFFUSERS_0_9_0) == FULL
  assert [b.kind for b in one.encoder_blocks] == [
      b.kind for b in FULL.encoder_blocks
  ]


@pytest.mark.parametrize(
    'change, words',
    [
        ({'timestep_conditioning': True}, 'timestep_conditioning is True'),
        ({'scaling_factor': 0.5}, 'scaling_factor is 0.5; expected 1.0'),
        ({'upsample_factor': [1, 2, 2, 1]}, 'upsample_factor is'),
        ({'patch_size': None, 'encoder_causal': False}, 'encoder_causal'),
    ],
)
def test_diffusers_configs_of_later_releases_are_refused(change, words):
  with pytest.raises(ValueError, match=words):
    layouts.config_of(DIFFUSERS_0_9_0 | change)


def test_original_configs_of_other_networks_are_refused():
  values = golden_file.load('ltx_vae_orig').meta['config']
  with pytest.raises(ValueError, match="norm_layer is 'group_norm'"):
    layouts.config_of(values | {'norm_layer': 'group_norm'})
  with pytest.raises(ValueError, match='no latent_channels'):
    layouts.config_of(
        {k: v for k, v in values.items() if k != 'latent_channels'}
    )
  with pytest.raises(ValueError, match='no encoder_blocks and no blocks'):
    layouts.config_of({k: v for k, v in values.items() if k != 'blocks'})


def test_the_diffusers_layout_refuses_what_it_has_no_names_for():
  config = layouts.config_of(golden_file.load('ltx_vae_orig_ts').meta['config'])
  with pytest.raises(ValueError, match='compress_all_res'):
    layouts.diffusers_table(config)
