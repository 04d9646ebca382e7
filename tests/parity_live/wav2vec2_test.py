"""wav2vec2 against transformers, both ways through the tables."""

import jax
import numpy as np
import pytest

from asymtalker_jax.convert import export
from asymtalker_jax.convert import layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wav2vec2 as table
from asymtalker_jax.models import wav2vec2
from tests.parity_live import reference

transformers = reference.package('transformers')


@pytest.mark.parametrize('large, width, layers, heads, samples', [
    (False, 16, 1, 2, 1600),
    (False, 48, 3, 4, 6000),
    (True, 24, 2, 3, 4000),
])
def test_equals_transformers(large, width, layers, heads, samples):
  model = make(large, width, layers, heads)
  config = table.config_of(model.config.to_dict())
  weights = reference.weights(model)
  params = rules.convert(
      weights, table.table_of(weights), table.targets(config)
  )
  wave = reference.normal(2, samples)
  theirs = reference.run(model, lambda m, cast: m(cast(wave)).last_hidden_state)
  ours = jax.jit(wav2vec2.Wav2Vec2(config).apply)({'params': params}, wave)
  reference.check(ours[-1], theirs)


def make(large, width, layers, heads):
  """A model with the norms of wav2vec2-base or of wav2vec2-large-lv60."""
  return reference.randomise(transformers.Wav2Vec2Model(
      transformers.Wav2Vec2Config(
          hidden_size=width, num_hidden_layers=layers,
          num_attention_heads=heads, intermediate_size=2 * width,
          conv_dim=(12,) * 7, num_conv_pos_embeddings=16,
          num_conv_pos_embedding_groups=2, do_stable_layer_norm=large,
          feat_extract_norm='layer' if large else 'group', conv_bias=large,
          attn_implementation='eager',
      )
  ))


@pytest.mark.parametrize('large', [False, True], ids=['base', 'large'])
def test_exported_encoder_loads_in_transformers(large, tmp_path):
  source = make(large, 24, 2, 3)
  config = table.config_of(source.config.to_dict())
  weights = reference.weights(source)
  params = rules.convert(
      weights, table.table_of(weights), table.targets(config)
  )
  layout = layouts.Layout('wav2vec2')  # Names of the released files.
  export.write(tmp_path, table.published_configs(config) | {
      'model.safetensors': rules.plan_export(params, layout.table(config))
  })
  model = transformers.Wav2Vec2Model.from_pretrained(
      tmp_path, attn_implementation='eager'
  ).eval()
  extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
  wave = reference.normal(3200)
  theirs = reference.run(source, lambda m, cast: m(
      cast(wave[None])).last_hidden_state)
  ours = reference.run(model, lambda m, cast: m(
      cast(wave[None])).last_hidden_state)
  np.testing.assert_array_equal(ours[0], theirs[0])
  values = extractor(wave, sampling_rate=16000, return_tensors='np')
  np.testing.assert_allclose(
      values['input_values'][0], wav2vec2.prepare_waveform(wave), atol=1e-6
  )
