"""Public layouts of the Wan 2.1 VAE: `Wan2.1_VAE.pth` and diffusers.

Both hold the same 194 tensors under other names. Neither holds the latent
statistics: the original has them in its code, diffusers in its config.json.
"""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
import numpy as np

from asymtalker_jax.convert import rules
from asymtalker_jax.models import wan_vae

# Per-channel statistics of Wan 2.1 latents, Wan2.1 wan/modules/vae.py.
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # pyformat: disable
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # pyformat: disable
_GAMMA2D = rules.drop_unit_axes(0, 2)
_GAMMA3D = rules.drop_unit_axes(0, 3)
# [out, in, 3, 1, 1] -> [3 in, out]: three frames side by side in channels.
_TIME_DOWN = rules.Transform(
    lambda x: x[..., 0, 0].transpose(2, 1, 0).reshape(-1, x.shape[0]),
    lambda x: x.reshape(3, -1, x.shape[-1]).transpose(2, 1, 0)[..., None, None],
)


def _layer(
    source: str, target: str, transform: rules.Transform
) -> list[rules.Rule]:
  return [
      rules.Rule(f'{source}.weight', f'{target}/kernel', transform),
      rules.Rule(f'{source}.bias', f'{target}/bias'),
  ]


def _block(source: str, target: str, names: Mapping[str, str]):
  """A residual block; `names` maps our layer names to the checkpoint's."""
  found = []
  for ours in ('norm1', 'norm2'):
    theirs = f'{source}.{names.get(ours, ours)}.gamma'
    found.append(rules.Rule(theirs, f'{target}/{ours}/gamma', _GAMMA3D))
  for ours in ('conv1', 'conv2'):
    theirs = f'{source}.{names.get(ours, ours)}'
    found += _layer(theirs, f'{target}/{ours}', rules.CONV3D)
  theirs = f'{source}.{names.get("shortcut", "shortcut")}'
  return found + _layer(theirs, f'{target}/shortcut', rules.POINTWISE3D)


def _resample(source: str, target: str, time: rules.Transform):
  space = _layer(f'{source}.resample.1', f'{target}/space_conv', rules.CONV2D)
  return space + _layer(f'{source}.time_conv', f'{target}/time_conv', time)


def _attention(source: str, target: str):
  norm = rules.Rule(f'{source}.norm.gamma', f'{target}/norm/gamma', _GAMMA2D)
  qkv = _layer(f'{source}.to_qkv', f'{target}/qkv', rules.POINTWISE2D)
  proj = _layer(f'{source}.proj', f'{target}/proj', rules.POINTWISE2D)
  return [norm, *qkv, *proj]


def _numbered(config: wan_vae.WanVaeConfig, blocks: int, suffix: str):
  """Our names of the layers of all stages, in the order of the checkpoint."""
  names = []
  for i in range(len(config.multipliers)):
    names += [f'stage_{i}_block_{j}' for j in range(blocks)]
    if i < len(config.strides):
      names.append(f'stage_{i}_{suffix}')
  return names


def _stages(config, side, prefix, names):
  """Stages as one numbered list, as all but the diffusers decoder have it."""
  up = side == 'decoder'
  blocks = config.res_blocks + up
  time = rules.CONV3D if up else _TIME_DOWN
  found = []
  layers = _numbered(config, blocks, 'up' if up else 'down')
  for n, layer in enumerate(layers):
    source, target = f'{prefix}.{n}', f'{side}/{layer}'
    if '_block_' in layer:
      found += _block(source, target, names)
    else:
      found += _resample(source, target, time)
  return found


def _constants(latent_mean, latent_std) -> dict[str, np.ndarray]:
  return {
      'latent_mean': np.asarray(latent_mean, np.float32),
      'latent_std': np.asarray(latent_std, np.float32),
  }


def original_table(
    config: wan_vae.WanVaeConfig,
    latent_mean: Sequence[float] = LATENT_MEAN,
    latent_std: Sequence[float] = LATENT_STD,
) -> rules.Table:
  """`Wan2.1_VAE.pth`, also the layout of SoulX-FlashHead's VAE."""
  names = {
      'norm1': 'residual.0',
      'conv1': 'residual.2',
      'norm2': 'residual.3',
      'conv2': 'residual.6',
  }
  found = _layer('conv1', 'posterior', rules.POINTWISE3D)
  found += _layer('conv2', 'prior', rules.POINTWISE3D)
  for side, stages in (('encoder', 'downsamples'), ('decoder', 'upsamples')):
    found += _layer(f'{side}.conv1', f'{side}/conv_in', rules.CONV3D)
    found += _stages(config, side, f'{side}.{stages}', names)
    middle, ours = f'{side}.middle', f'{side}/middle'
    found += _block(f'{middle}.0', f'{ours}/block_0', names)
    found += _attention(f'{middle}.1', f'{ours}/attention')
    found += _block(f'{middle}.2', f'{ours}/block_1', names)
    gamma = f'{side}/norm_out/gamma'
    found.append(rules.Rule(f'{side}.head.0.gamma', gamma, _GAMMA3D))
    found += _layer(f'{side}.head.2', f'{side}/conv_out', rules.CONV3D)
  return rules.Table(
      rules=tuple(found), constants=_constants(latent_mean, latent_std)
  )


def diffusers_table(
    config: wan_vae.WanVaeConfig,
    latent_mean: Sequence[float] = LATENT_MEAN,
    latent_std: Sequence[float] = LATENT_STD,
) -> rules.Table:
  """diffusers' `AutoencoderKLWan`; its config.json has the statistics."""
  names = {'shortcut': 'conv_shortcut'}
  found = _layer('quant_conv', 'posterior', rules.POINTWISE3D)
  found += _layer('post_quant_conv', 'prior', rules.POINTWISE3D)
  for side in ('encoder', 'decoder'):
    found += _layer(f'{side}.conv_in', f'{side}/conv_in', rules.CONV3D)
    middle, ours = f'{side}.mid_block', f'{side}/middle'
    found += _block(middle + '.resnets.{i:[01]}', ours + '/block_{i}', names)
    found += _attention(f'{middle}.attentions.0', f'{ours}/attention')
    gamma = f'{side}/norm_out/gamma'
    found.append(rules.Rule(f'{side}.norm_out.gamma', gamma, _GAMMA3D))
    found += _layer(f'{side}.conv_out', f'{side}/conv_out', rules.CONV3D)
  found += _stages(config, 'encoder', 'encoder.down_blocks', names)
  up = 'decoder.up_blocks.{i:\\d+}'
  stage = 'decoder/stage_{i}'
  found += _block(up + '.resnets.{j:\\d+}', stage + '_block_{j}', names)
  found += _resample(up + '.upsamplers.0', stage + '_up', rules.CONV3D)
  return rules.Table(
      rules=tuple(found), constants=_constants(latent_mean, latent_std)
  )


def targets(config: wan_vae.WanVaeConfig) -> dict[str, Any]:
  """Shapes and dtypes of the parameters, nothing computed."""
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(functools.partial(wan_vae.init, config), key)
