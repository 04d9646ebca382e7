"""Public layouts of wav2vec2 checkpoints.

Released files (wav2vec2-base-960h and others) write the weight norm of the
positional convolution as weight_g and weight_v and put a prefix before the
encoder's keys; a state dict of today's transformers has parametrizations and
no prefix. Both are kept apart from the values: `table_of` reads them off the
keys, and the same table exports to the same names.
"""

from collections.abc import Iterable, Mapping
import functools
from typing import Any

import jax

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import wav2vec2

PREFIX = 'wav2vec2.'
# Of the training objectives; nothing that encodes speech reads them.
UNUSED = (
    r'(wav2vec2\.)?masked_spec_embed',
    r'lm_head\..*',
    r'(quantizer|project_q|project_hid)\..*',
)
_MAGNITUDE = rules.drop_unit_axes(2, 0)  # [1, 1, K] -> [K]
_LAYER = {
    'attention.q_proj': 'query',
    'attention.k_proj': 'key',
    'attention.v_proj': 'value',
    'attention.out_proj': 'out',
    'feed_forward.intermediate_dense': 'ffn_in',
    'feed_forward.output_dense': 'ffn_out',
}
_FIXED = {
    'hidden_act': 'gelu',
    'feat_extract_activation': 'gelu',
    'add_adapter': False,
}
# Our name of each size -> that of config.json.
SIZES = {
    'width': 'hidden_size',
    'depth': 'num_hidden_layers',
    'heads': 'num_attention_heads',
    'ffn': 'intermediate_size',
    'conv_channels': 'conv_dim',
    'conv_kernels': 'conv_kernel',
    'conv_strides': 'conv_stride',
    'conv_norm': 'feat_extract_norm',
    'conv_bias': 'conv_bias',
    'position_kernel': 'num_conv_pos_embeddings',
    'position_groups': 'num_conv_pos_embedding_groups',
    'norm_first': 'do_stable_layer_norm',
    'eps': 'layer_norm_eps',
}


def config_of(published: Mapping[str, Any]) -> wav2vec2.Wav2Vec2Config:
  """Our configuration for a checkpoint's config.json.

  Raises:
    ValueError: a key is missing, or asks for what the encoder does not have.
  """
  missing = sorted(set(SIZES.values()) - set(published))
  if missing:
    raise ValueError(f'wav2vec2 config: no {", ".join(missing)}')
  for key, value in _FIXED.items():
    if published.get(key, value) != value:
      raise ValueError(
          f'wav2vec2 config: {key} is {published[key]!r}; expected {value!r}'
      )
  return wav2vec2.Wav2Vec2Config(
      **{ours: published[theirs] for ours, theirs in SIZES.items()}
  )


def published_configs(config: wav2vec2.Wav2Vec2Config) -> dict[str, dict]:
  """JSON files of an encoder as transformers reads them, by name."""
  sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
  network = sizes | _FIXED | {
      'architectures': ['Wav2Vec2Model'],
      'model_type': 'wav2vec2',
      'num_feat_extract_layers': len(config.conv_channels),
  }
  # The waveform's normalisation, as of wav2vec2-base-960h.
  waveform = {
      'do_normalize': True,
      'feature_extractor_type': 'Wav2Vec2FeatureExtractor',
      'feature_size': 1,
      'padding_side': 'right',
      'padding_value': 0.0,
      'return_attention_mask': False,
      'sampling_rate': 16000,
  }
  return {'config.json': network, 'preprocessor_config.json': waveform}


def _norm(source: str, target: str) -> list[rules.Rule]:
  return [
      rules.Rule(f'{source}.weight', f'{target}/scale'),
      rules.Rule(f'{source}.bias', f'{target}/bias'),
  ]


def table(prefix: str = PREFIX, parametrized: bool = False) -> rules.Table:
  """Table of one layout.

  Args:
    prefix: of the encoder's keys.
    parametrized: whether the weight norm has the names of
      `torch.nn.utils.parametrizations` instead of weight_g and weight_v.
  """
  conv = prefix + 'feature_extractor.conv_layers.{i}'
  projection = f'{prefix}feature_projection'
  position = f'{prefix}encoder.pos_conv_embed.conv'
  layer = prefix + 'encoder.layers.{i}'
  if parametrized:
    magnitude, direction = (
        f'{position}.parametrizations.weight.original{n}' for n in (0, 1)
    )
  else:
    magnitude, direction = f'{position}.weight_g', f'{position}.weight_v'
  found = [
      rules.Rule(f'{conv}.conv.weight', 'conv_{i}/linear/kernel', rules.CONV1D),
      rules.Rule(f'{conv}.conv.bias', 'conv_{i}/linear/bias'),
      *_norm(f'{conv}.layer_norm', 'conv_{i}/norm'),
      *_norm(f'{projection}.layer_norm', 'feature_projection/norm'),
      *wan_dit.linear(f'{projection}.projection', 'feature_projection/linear'),
      rules.Rule(magnitude, 'position/magnitude', _MAGNITUDE),
      rules.Rule(direction, 'position/direction', rules.CONV1D),
      rules.Rule(f'{position}.bias', 'position/bias'),
      *_norm(f'{prefix}encoder.layer_norm', 'norm'),
      *_norm(f'{layer}.layer_norm', 'layer_{i}/attention_norm'),
      *_norm(f'{layer}.final_layer_norm', 'layer_{i}/ffn_norm'),
  ]
  for theirs, ours in _LAYER.items():
    found += wan_dit.linear(f'{layer}.{theirs}', 'layer_{i}/' + ours)
  return rules.Table(rules=tuple(found), ignore=UNUSED)


def options_of(keys: Iterable[str]) -> dict[str, Any]:
  """Arguments of `table` for the layout that these checkpoint keys are in."""
  keys = list(keys)
  return dict(
      prefix=PREFIX if any(k.startswith(PREFIX) for k in keys) else '',
      parametrized=any('.parametrizations.' in k for k in keys),
  )


def table_of(keys: Iterable[str]) -> rules.Table:
  """The table for the layout that these checkpoint keys are in."""
  return table(**options_of(keys))


def targets(config: wav2vec2.Wav2Vec2Config) -> dict[str, Any]:
  """Shapes and dtypes of the parameters, nothing computed."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(functools.partial(wav2vec2.init, config), key)
