"""Public layouts of the LTX video VAE: original (FlashHead) and diffusers.

The original numbers all blocks in one list; diffusers groups them by stage,
without a second name for anything. Both hold the latent statistics.
"""

from collections.abc import Mapping
import dataclasses
import functools
import re
from typing import Any

import jax

from asymtalker_jax.convert import rules
from asymtalker_jax.models import ltx_vae

# Settings that only have one value here, and what a missing key means.
_ORIGINAL_FIXED = {
    'dims': (3, None),
    'in_channels': (3, 3),
    'out_channels': (3, 3),
    'norm_layer': ('pixel_norm', 'group_norm'),
    'latent_log_var': ('uniform', 'per_channel'),
    'use_quant_conv': (False, True),
    'normalize_latent_channels': (False, False),
    'scaling_factor': (1.0, 1.0),
}
_DIFFUSERS_FIXED = {
    'in_channels': (3, 3),
    'out_channels': (3, 3),
    'patch_size_t': (1, 1),
    'resnet_norm_eps': (1e-6, 1e-6),
    'scaling_factor': (1.0, 1.0),
    'encoder_causal': (True, True),
    'timestep_conditioning': (False, False),
}
# Lists of later LTX versions, whose values must all be as in 0.9.0.
_DIFFUSERS_PLAIN = {
    'decoder_inject_noise': False,
    'upsample_residual': False,
    'upsample_factor': 1,
    'down_block_types': 'LTXVideoDownBlock3D',
    'downsample_type': 'conv',
}
# What diffusers takes for a decoder of which a configuration says nothing.
_DECODER_DEFAULTS = {
    'decoder_block_out_channels': [128, 256, 512, 512],
    'decoder_layers_per_block': [4, 3, 3, 3, 4],
    'decoder_spatio_temporal_scaling': [True, True, True, False],
}
_STATISTICS = {'mean-of-means': 'latent_mean', 'std-of-means': 'latent_std'}
_UNIT_PIXEL = rules.drop_unit_axes(0, 2)  # [C, 1, 1] -> [C]


def config_of(published: Mapping[str, Any]) -> ltx_vae.LtxVaeConfig:
  """Our configuration for a checkpoint's config.json, of either layout.

  Raises:
    ValueError: a key is missing, or asks for what the network does not have.
  """
  if 'block_out_channels' in published:
    return _diffusers_config(published)
  return _original_config(published)


def _require(published: Mapping[str, Any], *keys: str) -> list[Any]:
  missing = [key for key in keys if key not in published]
  if missing:
    raise ValueError(f'LTX VAE config: no {", ".join(missing)}')
  return [published[key] for key in keys]


def _check_fixed(published: Mapping[str, Any], fixed: Mapping[str, Any]):
  for key, (value, default) in fixed.items():
    if published.get(key, default) != value:
      raise ValueError(
          f'LTX VAE config: {key} is {published.get(key, default)!r}; expected '
          f'{value!r}'
      )


def _original_config(published: Mapping[str, Any]) -> ltx_vae.LtxVaeConfig:
  """One list `blocks` for both sides (0.9.0), or a list for each."""
  _check_fixed(published, _ORIGINAL_FIXED)
  blocks = {}
  for key in ('encoder_blocks', 'decoder_blocks'):
    found = published.get(key) or published.get('blocks')
    if not found:
      raise ValueError(f'LTX VAE config: no {key} and no blocks')
    blocks[key] = found
  (latent_channels,) = _require(published, 'latent_channels')
  return ltx_vae.LtxVaeConfig(
      **blocks,
      encoder_base_channels=published.get('encoder_base_channels', 128),
      decoder_base_channels=published.get('decoder_base_channels', 128),
      latent_channels=latent_channels,
      patch_size=published.get('patch_size', 1),
      timestep_conditioning=published.get('timestep_conditioning', False),
      causal_decoder=published.get('causal_decoder', False),
      spatial_padding_mode=published.get('spatial_padding_mode', 'zeros'),
  )


def _diffusers_config(published: Mapping[str, Any]) -> ltx_vae.LtxVaeConfig:
  """Stages of residual blocks, a change of resolution, and one of width."""
  _check_fixed(published, _DIFFUSERS_FIXED)
  for key, value in _DIFFUSERS_PLAIN.items():
    found = published.get(key, value)
    found = found if isinstance(found, list | tuple) else [found]
    if any(v != value for v in found):
      raise ValueError(
          f'LTX VAE config: {key} is {found}; expected {value!r} throughout'
      )
  widths, layers, strided, latent_channels, patch_size = _require(
      published, 'block_out_channels', 'layers_per_block',
      'spatio_temporal_scaling', 'latent_channels', 'patch_size',
  )  # pyformat: disable
  decoder_widths = published.get('decoder_block_out_channels', widths)
  return ltx_vae.LtxVaeConfig(
      encoder_blocks=_stages(widths, layers, strided),
      decoder_blocks=_stages(
          decoder_widths,
          published.get('decoder_layers_per_block', layers),
          published.get('decoder_spatio_temporal_scaling', strided),
      ),
      encoder_base_channels=widths[0],
      decoder_base_channels=decoder_widths[0],
      latent_channels=latent_channels,
      patch_size=patch_size,
      causal_decoder=published.get('decoder_causal', False),
  )


def diffusers_config(config: ltx_vae.LtxVaeConfig) -> dict[str, Any]:
  """config.json of diffusers' layout; of LTX 0.9.0 the published one.

  FlashHead's code knows that one by its values, so it has no key more.

  Raises:
    ValueError: the configuration has blocks that this layout does not.
  """
  _diffusers_sources(config)  # Raises.
  widths, layers, strided = _grouped(
      config.encoder_blocks, config.encoder_base_channels
  )
  decoder = dict(zip(
      _DECODER_DEFAULTS,
      _grouped(config.decoder_blocks, config.decoder_base_channels),
  ))  # pyformat: disable
  published = {
      '_class_name': 'AutoencoderKLLTXVideo',
      '_diffusers_version': '0.32.0.dev0',
      'block_out_channels': widths,
      'decoder_causal': config.causal_decoder,
      'encoder_causal': True,
      'in_channels': 3,
      'latent_channels': config.latent_channels,
      'layers_per_block': layers,
      'out_channels': 3,
      'patch_size': config.patch_size,
      'patch_size_t': 1,
      'resnet_norm_eps': 1e-6,
      'scaling_factor': 1.0,
      'spatio_temporal_scaling': strided,
  }
  return published | ({} if decoder == _DECODER_DEFAULTS else decoder)


def _grouped(blocks, width: float) -> tuple[list, list, list]:
  """Inverse of `_stages`: (widths, layers, strided)."""
  widths, layers, strided = [], [], []
  for block in blocks:
    if block.kind == 'res_x':
      widths.append(int(width))
      layers.append(block.num_layers)
      strided.append(False)
    elif block.kind == 'compress_all':
      strided[-1] = True
    else:
      width *= block.multiplier
  return widths[:-1], layers, strided[:-1]  # The last one is the middle.


def _stages(widths, layers, strided) -> list[Any]:
  """Block list of one side, from pixels to latents.

  Args:
    widths: of the residual blocks of each stage.
    layers: residual blocks of each stage and of the middle.
    strided: whether a stage changes the resolution.
  """
  blocks = []
  deeper = [*widths[1:], widths[-1]]
  for width, deep, count, stride in zip(widths, deeper, layers, strided):
    blocks.append(('res_x', count))
    if stride:
      blocks.append(('compress_all', 1))
    if deep != width:
      blocks.append(('res_x_y', {'multiplier': deep / width}))
  return [*blocks, ('res_x', layers[-1])]


@dataclasses.dataclass(frozen=True)
class _Names:
  """What a layout calls the parts of a block."""

  stack: str
  norm: str
  shortcut: str


_ORIGINAL = _Names('res_blocks', 'norm3.norm', 'conv_shortcut')
_DIFFUSERS = _Names('resnets', 'norm3', 'conv_shortcut.conv')


def _layer(source: str, target: str, transform: rules.Transform = rules.CONV3D):
  return [
      rules.Rule(f'{source}.weight', f'{target}/kernel', transform),
      rules.Rule(f'{source}.bias', f'{target}/bias'),
  ]


def _time(source: str, target: str) -> list[rules.Rule]:
  base = f'{source}.timestep_embedder.linear_'
  hidden = _layer(f'{base}1', f'{target}/hidden', rules.LINEAR)
  return hidden + _layer(f'{base}2', f'{target}/out', rules.LINEAR)


def _res_block(source: str, target: str, names: _Names) -> list[rules.Rule]:
  shortcut = f'{source}.{names.shortcut}'
  return [
      *_layer(source + '.conv{n:[12]}.conv', target + '/conv{n}'),
      *_layer(shortcut, f'{target}/shortcut', rules.POINTWISE3D),
      rules.Rule(f'{source}.{names.norm}.weight', f'{target}/norm3/scale'),
      rules.Rule(f'{source}.{names.norm}.bias', f'{target}/norm3/bias'),
      rules.Rule(f'{source}.scale_shift_table', f'{target}/modulation'),
      rules.Rule(
          source + '.per_channel_scale{n:[12]}',
          target + '/noise_scale{n}',
          _UNIT_PIXEL,
      ),
  ]


def _block(kind: str, source: str, target: str, side: str, names: _Names):
  """Rules of one block of a list."""
  if kind == 'res_x':
    stack = source + '.' + names.stack + '.{j}'
    found = _res_block(stack, target + '/res_{j}', names)
    return found + _time(f'{source}.time_embedder', f'{target}/time')
  if kind == 'res_x_y':
    return _res_block(source, target, names)
  if side == 'encoder' and not kind.endswith('_res'):
    return _layer(f'{source}.conv', target)
  return _layer(f'{source}.conv.conv', f'{target}/conv')


def _sides(config: ltx_vae.LtxVaeConfig):
  """(side, kinds of its blocks in the order in which they act)."""
  yield 'encoder', [block.kind for block in config.encoder_blocks]
  yield 'decoder', [block.kind for block in config.decoder_blocks[::-1]]


def _table(config, sources, names: _Names, prefix='', ignore=()):
  """Rules of all that the layouts have in common.

  Args:
    config: of the VAE.
    sources: side -> where the layout has each of its blocks.
    names: of the layout.
    prefix: of every key.
    ignore: as in `rules.Table`.
  """
  found = []
  for side, kinds in _sides(config):
    for ends in ('conv_in', 'conv_out'):
      found += _layer(f'{prefix}{side}.{ends}.conv', f'{side}/{ends}')
    for i, (kind, source) in enumerate(zip(kinds, sources[side], strict=True)):
      source = f'{prefix}{side}.{source}'
      found += _block(kind, source, f'{side}/block_{i}', side, names)
  return rules.Table(rules=tuple(found), ignore=tuple(ignore))


def original_table(
    config: ltx_vae.LtxVaeConfig, prefix: str = ''
) -> rules.Table:
  """LTX-Video's own layout, also that of SoulX-FlashHead's VAE.

  Args:
    config: of the VAE.
    prefix: of the VAE's keys: 'vae.' in single-file releases, whose other keys
      are ignored.
  """
  sources = {
      side: [
          f'{"down" if side == "encoder" else "up"}_blocks.{i}'
          for i, _ in enumerate(kinds)
      ]
      for side, kinds in _sides(config)
  }
  statistics = prefix + 'per_channel_statistics.'
  # Releases hold more statistics than the two that anything reads.
  ignore = [re.escape(statistics) + '(?!(mean|std)-of-means$).*']
  if prefix:
    ignore.append(f'(?!{re.escape(prefix)}).*')
  table = _table(config, sources, _ORIGINAL, prefix, ignore)
  decoder, last = f'{prefix}decoder.', 'last_scale_shift_table'
  own = [
      rules.Rule(f'{decoder}{last}', 'decoder/modulation'),
      rules.Rule(
          f'{decoder}timestep_scale_multiplier', 'decoder/timestep_scale'
      ),
      *_time(f'{decoder}last_time_embedder', 'decoder/time'),
  ]
  own += [rules.Rule(statistics + k, v) for k, v in _STATISTICS.items()]
  return dataclasses.replace(table, rules=(*table.rules, *own))


def diffusers_table(config: ltx_vae.LtxVaeConfig) -> rules.Table:
  """diffusers' `AutoencoderKLLTXVideo` for LTX 0.9.0.

  Raises:
    ValueError: the configuration has blocks that this layout does not.
  """
  table = _table(config, _diffusers_sources(config), _DIFFUSERS)
  own = [rules.Rule(f'latents_{k}', f'latent_{k}') for k in ('mean', 'std')]
  return dataclasses.replace(table, rules=(*table.rules, *own))


def _diffusers_sources(config: ltx_vae.LtxVaeConfig) -> dict[str, list[str]]:
  """Places of the blocks, grouped into stages and the middle."""
  sources = {}
  for side, kinds in _sides(config):
    encoder = side == 'encoder'
    parts = {
        'res_x': '',
        'res_x_y': '.conv_out' if encoder else '.conv_in',
        'compress_all': '.downsamplers.0' if encoder else '.upsamplers.0',
    }
    unknown = sorted(set(kinds) - set(parts))
    if unknown or config.timestep_conditioning:
      raise ValueError(
          f'{side} with blocks {unknown or sorted(parts)} and timestep_'
          f'conditioning {config.timestep_conditioning}: the diffusers layout '
          f'has {sorted(parts)} without it'
      )
    # A stage starts with its residual blocks in the encoder and ends with them
    # in the decoder; the last (first) residual blocks are the middle.
    middle = kinds.count('res_x') - 1 if encoder else -1
    stage, sources[side] = -1, []
    for kind in kinds:
      stage += encoder and kind == 'res_x'
      name = f'{"down" if encoder else "up"}_blocks.{stage}'
      name = 'mid_block' if stage == middle and kind == 'res_x' else name
      sources[side].append(name + parts[kind])
      stage += not encoder and kind == 'res_x'
  return sources


def targets(config: ltx_vae.LtxVaeConfig) -> dict[str, Any]:
  """Shapes and dtypes of the parameters, nothing computed."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(functools.partial(ltx_vae.init, config), key)
