"""Layouts of wav2vec2, at the golden's and at full size."""

import ast

import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wav2vec2 as layouts
from asymtalker_jax.models import wav2vec2
from tests import golden_file

POSITION = 'encoder.pos_conv_embed.conv.'
RELEASED = {
    f'{POSITION}parametrizations.weight.original0': f'{POSITION}weight_g',
    f'{POSITION}parametrizations.weight.original1': f'{POSITION}weight_v',
}


def released(tensors):
  """The same tensors under the names of the released files."""
  return {
      layouts.PREFIX + RELEASED.get(key, key): value
      for key, value in tensors.items()
  }


def published():
  """Key -> shape of wav2vec2-base-960h without its head."""
  path = golden_file.FOLDER / 'keys' / 'wav2vec2_base_960h.txt'
  lines = path.read_text().splitlines()
  pairs = [line.split('\t') for line in lines if not line.startswith('#')]
  return {key: tuple(ast.literal_eval(shape)) for key, shape in pairs}


@pytest.mark.parametrize('names', [dict, released])
@pytest.mark.parametrize('norm', ['group', 'layer'])
def test_export_gives_back_every_bit_of_the_checkpoint(norm, names):
  golden = golden_file.load(f'wav2vec2_{norm}')
  config = layouts.config_of(golden.meta['config'])
  weights = names(golden.weights())
  table = layouts.table_of(weights)
  params = rules.convert(weights, table, layouts.targets(config))
  exported = rules.export(params, table)
  assert exported.keys() == weights.keys()
  for key, tensor in weights.items():
    np.testing.assert_array_equal(exported[key], tensor, err_msg=key)


@pytest.mark.parametrize('names', [dict, released])
def test_every_key_of_the_published_checkpoint_has_its_place(names):
  shapes = names(published())
  assert len(shapes) == 211
  if names is released:
    shapes |= {'lm_head.weight': (32, 768), 'lm_head.bias': (32,)}
  # Broadcast zeros: 94 million parameters without their memory.
  tensors = {k: np.broadcast_to(np.float32(0), s) for k, s in shapes.items()}
  targets = layouts.targets(wav2vec2.Wav2Vec2Config())
  rules.convert(tensors, layouts.table_of(tensors), targets)


def test_a_missing_and_an_unknown_tensor_are_both_named():
  golden = golden_file.load('wav2vec2_group')
  config = layouts.config_of(golden.meta['config'])
  weights = golden.weights()
  weights['adapter.proj.weight'] = weights.pop('encoder.layer_norm.bias')
  with pytest.raises(ValueError) as error:
    rules.convert(weights, layouts.table_of(weights), layouts.targets(config))
  assert 'adapter.proj.weight' in str(error.value)
  assert 'norm/bias' in str(error.value)


@pytest.mark.parametrize(
    'change, message',
    [({'hidden_act': 'relu'}, 'hidden_act'), ({'conv_dim': None}, 'conv_dim')],
)
def test_a_config_that_asks_for_something_else_is_refused(change, message):
  published_config = golden_file.load('wav2vec2_group').meta['config'] | change
  published_config = {
      k: v for k, v in published_config.items() if v is not None
  }
  with pytest.raises(ValueError, match=message):
    layouts.config_of(published_config)
