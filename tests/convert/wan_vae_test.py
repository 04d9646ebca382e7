"""Both public layouts of the Wan VAE, at the golden's and at full size."""

import ast

import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae as layouts
from asymtalker_jax.models import wan_vae
from tests import golden_file

GOLDEN = {
    'orig': wan_vae.WanVaeConfig(base_channels=4, res_blocks=1),
    'diffusers': wan_vae.WanVaeConfig(
        base_channels=4, res_blocks=1, latent_channels=4
    ),
}


def published(layout):
  """Key -> shape of the released checkpoint."""
  path = golden_file.FOLDER / 'keys' / f'wan2.1_vae_{layout}.txt'
  lines = path.read_text().splitlines()
  lines = [line for line in lines if not line.startswith('#')]
  pairs = [line.split('\t') for line in lines]
  return {key: tuple(ast.literal_eval(shape)) for key, shape in pairs}


@pytest.mark.parametrize('name', ['orig', 'diffusers'])
def test_export_gives_back_every_bit_of_the_checkpoint(name):
  config = GOLDEN[name]
  weights = golden_file.load(f'wan_vae_{name}').weights()
  if name == 'orig':
    table = layouts.original_table(config)
  else:
    table = layouts.diffusers_table(config, np.zeros(4), np.ones(4))
  params = rules.convert(weights, table, layouts.targets(config))
  exported = rules.export(params, table)
  assert exported.keys() == weights.keys()
  for key, tensor in weights.items():
    np.testing.assert_array_equal(exported[key], tensor, err_msg=key)


@pytest.mark.parametrize(
    'layout, table',
    [
        ('original', layouts.original_table),
        ('diffusers', layouts.diffusers_table),
    ],
)
def test_every_key_of_the_published_checkpoint_has_its_place(layout, table):
  config = wan_vae.WanVaeConfig()
  keys = published(layout)
  assert len(keys) == 194
  # Broadcast zeros: 126 million parameters without their memory.
  tensors = {k: np.broadcast_to(np.float32(0), s) for k, s in keys.items()}
  rules.convert(tensors, table(config), layouts.targets(config))


def test_both_layouts_give_the_same_parameters():
  config = GOLDEN['orig']
  weights = golden_file.load('wan_vae_orig').weights()
  original = layouts.original_table(config)
  params = rules.convert(weights, original, layouts.targets(config))
  diffusers = layouts.diffusers_table(config)
  again = rules.convert(
      rules.export(params, diffusers), diffusers, layouts.targets(config)
  )
  for path, value in rules.flatten(params).items():
    np.testing.assert_array_equal(rules.flatten(again)[path], value)


def test_statistics_are_those_of_wan_2_1():
  meta = golden_file.load('wan_vae_orig').meta
  np.testing.assert_allclose(layouts.LATENT_MEAN, meta['scale_mean'], rtol=1e-6)
  np.testing.assert_allclose(
      1 / np.array(layouts.LATENT_STD), meta['scale_inv_std'], rtol=1e-6
  )


def test_a_missing_layer_is_named():
  config = GOLDEN['orig']
  weights = golden_file.load('wan_vae_orig').weights()
  del weights['decoder.middle.1.proj.bias']
  with pytest.raises(ValueError, match='decoder/middle/attention/proj/bias'):
    rules.convert(
        weights, layouts.original_table(config), layouts.targets(config)
    )
