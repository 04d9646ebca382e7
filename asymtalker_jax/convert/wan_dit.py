"""Public layouts of the Wan 2.1 DiT, and the start from text-to-video.

The original and the diffusers checkpoint hold the same tensors under other
names; `convert/flashhead.py` builds on the original one.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.convert import rules
from asymtalker_jax.models import dit

_ROW = rules.drop_unit_axes(1, 0)  # [1, 6, D] -> [6, D]


def linear(source: str, target: str) -> list[rules.Rule]:
  """Rules of a linear layer's weight and bias."""
  return [
      rules.Rule(f'{source}.weight', f'{target}/kernel', rules.LINEAR),
      rules.Rule(f'{source}.bias', f'{target}/bias'),
  ]


def patch_embedding(patch: tuple[int, int, int]) -> list[rules.Rule]:
  """The patch convolution [D, C, pt, ph, pw] as a matrix [pt ph pw C, D]."""

  def forward(x):
    return x.transpose(2, 3, 4, 1, 0).reshape(-1, x.shape[0])

  def inverse(x):
    return x.reshape(*patch, -1, x.shape[-1]).transpose(4, 3, 0, 1, 2)

  matrix = rules.Transform(forward, inverse)
  return [
      rules.Rule('patch_embedding.weight', 'patch_embedding/kernel', matrix),
      rules.Rule('patch_embedding.bias', 'patch_embedding/bias'),
  ]


def _attention(source: str, target: str, names: Mapping[str, str]):
  found = []
  for ours in ('query', 'key', 'value'):
    found += linear(f'{source}.{names[ours]}', f'{target}/{ours}/linear')
  for ours in ('query', 'key'):
    norm = f'{source}.norm_{ours[0]}.weight'
    found.append(rules.Rule(norm, f'{target}/{ours}/norm/scale'))
  return found + linear(f'{source}.{names["out"]}', f'{target}/out')


def original_blocks() -> list[rules.Rule]:
  """Everything but patch embedding and conditioning, original names."""
  block, ours = 'blocks.{i:\\d+}', 'blocks[{i}]'
  names = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
  return [
      rules.Rule(f'{block}.modulation', f'{ours}/modulation', _ROW),
      *_attention(f'{block}.self_attn', f'{ours}/self_attention', names),
      *_attention(f'{block}.cross_attn', f'{ours}/cross_attention', names),
      rules.Rule(f'{block}.norm3.weight', f'{ours}/cross_norm/scale'),
      rules.Rule(f'{block}.norm3.bias', f'{ours}/cross_norm/bias'),
      *linear(f'{block}.ffn.0', f'{ours}/ffn_in'),
      *linear(f'{block}.ffn.2', f'{ours}/ffn_out'),
      *linear('time_embedding.0', 'time_embedding/hidden'),
      *linear('time_embedding.2', 'time_embedding/out'),
      *linear('time_projection.1', 'time_embedding/modulation'),
      rules.Rule('head.modulation', 'head/modulation', _ROW),
      *linear('head.head', 'head/linear'),
  ]


def original_table(config: dit.DiTConfig) -> rules.Table:
  """Wan 2.1 text-to-video, original names."""
  return rules.Table(
      rules=(
          *patch_embedding(config.patch),
          *original_blocks(),
          *linear('text_embedding.0', 'text_embedding/hidden'),
          *linear('text_embedding.2', 'text_embedding/out'),
      )
  )


def diffusers_table(config: dit.DiTConfig) -> rules.Table:
  """Wan 2.1 text-to-video, diffusers' `WanTransformer3DModel`."""
  block, ours = 'blocks.{i:\\d+}', 'blocks[{i}]'
  names = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'out': 'to_out.0'}
  text = 'condition_embedder.text_embedder'
  time = 'condition_embedder.time_embedder'
  found = [
      *patch_embedding(config.patch),
      rules.Rule(f'{block}.scale_shift_table', f'{ours}/modulation', _ROW),
      *_attention(f'{block}.attn1', f'{ours}/self_attention', names),
      *_attention(f'{block}.attn2', f'{ours}/cross_attention', names),
      rules.Rule(f'{block}.norm2.weight', f'{ours}/cross_norm/scale'),
      rules.Rule(f'{block}.norm2.bias', f'{ours}/cross_norm/bias'),
      *linear(f'{block}.ffn.net.0.proj', f'{ours}/ffn_in'),
      *linear(f'{block}.ffn.net.2', f'{ours}/ffn_out'),
      *linear(f'{time}.linear_1', 'time_embedding/hidden'),
      *linear(f'{time}.linear_2', 'time_embedding/out'),
      *linear('condition_embedder.time_proj', 'time_embedding/modulation'),
      *linear(f'{text}.linear_1', 'text_embedding/hidden'),
      *linear(f'{text}.linear_2', 'text_embedding/out'),
      rules.Rule('scale_shift_table', 'head/modulation', _ROW),
      *linear('proj_out', 'head/linear'),
  ]
  return rules.Table(rules=tuple(found))


def targets(config: dit.DiTConfig) -> dict[str, Any]:
  """Shapes and dtypes of the parameters, nothing computed."""

  def init(key):
    latents = jnp.zeros((1, 1, *config.patch[1:], config.latent_channels))
    audio = (1, 1 + config.temporal_stride, 5, config.audio_layers)
    if config.cross_attention == 'text':
      conditioning = dict(text=jnp.zeros((1, 1, config.text_dim)))
    else:
      latents = jnp.repeat(latents, 2, axis=1)
      conditioning = dict(
          reference=latents,
          audio=jnp.zeros((*audio, config.audio_channels)),
      )
    model = dit.DiT(config)
    return model.init(key, latents, jnp.zeros((1,)), **conditioning)['params']

  return jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))


def widen_patch_embedding(
    kernel: np.ndarray, patch: tuple[int, int, int]
) -> np.ndarray:
  """Kernel with a reference half of zeros behind the noisy half.

  Args:
    kernel: [pt ph pw C, D] of a text-to-video model.
    patch: (pt, ph, pw).

  Returns:
    [pt ph pw 2C, D]; the network ignores the reference until it is trained.
  """
  noisy = np.asarray(kernel).reshape(int(np.prod(patch)), -1, kernel.shape[-1])
  wide = np.concatenate([noisy, np.zeros_like(noisy)], axis=1)
  return wide.reshape(-1, kernel.shape[-1])


def start_from_text_to_video(
    text_params: Mapping[str, Any],
    fresh_params: Mapping[str, Any],
    config: dit.DiTConfig,
) -> tuple[dict[str, Any], list[str]]:
  """Parameters of a talking head that starts as a text-to-video model.

  The text cross-attention becomes the audio cross-attention; the text
  embedding is dropped.

  Args:
    text_params: of a DiT with cross_attention 'text', from a table above.
    fresh_params: initialised parameters of `config`; its audio projection is
      kept, everything else only gives the expected shapes.
    config: with cross_attention 'audio', otherwise of the same sizes.

  Returns:
    (parameters, what is new in them: one line per top-level part).

  Raises:
    ValueError: the two models differ in size; the message lists all leaves.
  """
  kernel = text_params['patch_embedding']['kernel']
  params = {k: v for k, v in text_params.items() if k != 'text_embedding'}
  params['patch_embedding'] = {
      'kernel': widen_patch_embedding(kernel, config.patch),
      'bias': text_params['patch_embedding']['bias'],
  }
  params['audio_projection'] = fresh_params['audio_projection']
  found, wanted = rules.flatten(params), rules.flatten(fresh_params)
  problems = [
      f'{path}: {np.shape(found.get(path))} instead of {np.shape(leaf)}'
      for path, leaf in wanted.items()
      if np.shape(found.get(path)) != np.shape(leaf)
  ]
  problems += [f'{path}: not in the target' for path in found.keys() - wanted]
  if problems:
    raise ValueError(
        'text-to-video parameters do not fit:\n  ' + '\n  '.join(problems)
    )
  new = [
      'patch_embedding/kernel: the half that reads the reference, zeros',
      'audio_projection: all of it; kernels normal with variance 1 / inputs, '
      'biases normal with deviation 0.02, norm 1 and 0',
  ]
  return params, new
