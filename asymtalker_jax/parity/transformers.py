"""The outputs of golden files of the DiTs: diffusers' Wan and FlashHead's."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.convert import configs
from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit as wan_layouts
from asymtalker_jax.models import audio_projection
from asymtalker_jax.models import dit
from asymtalker_jax.models import embeddings
from asymtalker_jax.models import rope
from asymtalker_jax.parity import formula
from asymtalker_jax.parity import golden as golden_lib


def channels_last(x) -> np.ndarray:
  """[..., C, T, H, W] of PyTorch -> [..., T, H, W, C]."""
  return np.moveaxis(np.asarray(x, np.float32), -4, -1)


def channels_first(x) -> np.ndarray:
  """[..., T, H, W, C] -> [..., C, T, H, W]."""
  return np.moveaxis(np.asarray(x), -1, -4)


@functools.partial(jax.jit, static_argnums=0)
def _stages(config: dit.DiTConfig, params, inputs) -> dict[str, jax.Array]:
  """What the golden files record on the way to the output."""
  model, variables = dit.DiT(config), {'params': params}
  x, timestep = inputs['x'], inputs['timestep']
  tokens = model.apply(variables, x, inputs.get('reference'), method='tokens')
  embedding, modulation = model.apply(variables, timestep, method='time')
  context = model.apply(
      variables, inputs.get('audio'), inputs.get('text'), method='context'
  )
  batch, t, h, w, _ = x.shape
  grid = (t, h // config.patch[1], w // config.patch[2])
  rotation = tuple(
      angle.reshape(t, -1, angle.shape[-1])
      for angle in rope.rotation(config.width // config.heads, grid)
  )
  first = jax.tree.map(lambda p: p[0], params['blocks'])
  block, _ = dit.Block(config).apply(
      {'params': first}, tokens, modulation, rotation, context
  )
  flat = (batch, -1, config.width)
  return dict(
      sinusoid=embeddings.sinusoid(timestep, config.frequency_dim),
      embedding=embedding[:, 0],
      modulation=modulation.reshape(batch, -1),
      context=context,
      tokens=tokens.reshape(flat),
      block=block.reshape(flat),
      output=jnp.moveaxis(model.apply(variables, **inputs), -1, 1),
  )


@functools.partial(jax.jit, static_argnums=0)
def _velocity(config: dit.DiTConfig, params, inputs) -> jax.Array:
  return dit.DiT(config).apply({'params': params}, **inputs)


def wan_dit(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of diffusers' `WanTransformer3DModel`."""
  config = golden.at_precision(configs.wan_dit_diffusers(golden.config))
  params = rules.convert(
      golden.weights(),
      wan_layouts.diffusers_table(config),
      wan_layouts.targets(config),
  )
  inputs = dict(
      x=channels_last(golden['in.hidden_states']),
      timestep=golden['in.timestep'],
      text=golden['in.encoder_hidden_states'],
  )
  stages = _stages(config, params, inputs)
  found = dict(
      temb=stages['embedding'],
      timestep_proj=stages['modulation'],
      text_embedded=stages['context'][:, 0],
      block0=stages['block'],
      output=stages['output'],
  )
  if 'in.timestep_per_token' in golden.tensors:
    per_frame = _per_frame(golden['in.timestep_per_token'], inputs['x'].shape)
    velocity = _velocity(config, params, inputs | dict(timestep=per_frame))
    found['output_per_token_t'] = channels_first(velocity)
  return found


def _per_frame(per_token: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """[B, L] timesteps of tokens -> [B, T]; here a frame has one timestep."""
  tokens = per_token.reshape(*shape[:2], -1)
  if (tokens != tokens[..., :1]).any():
    raise ValueError(
        'in.timestep_per_token differs within a latent frame: expected one '
        'timestep per frame'
    )
  return tokens[..., 0]


def flashhead_dit(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of FlashHead's `WanModelAudioProject`, Pro and Lite."""
  weights = golden.weights()
  given = _flashhead_inputs(golden)
  shapes = {key: np.shape(value) for key, value in weights.items()}
  config = golden.at_precision(configs.flashhead_dit(
      golden.config, shapes, given['audio'].shape[-2:]
  ))
  params = rules.convert(
      weights, flashhead.table(config), wan_layouts.targets(config)
  )
  stages = _stages(config, params, given)
  _, later = audio_projection.group_windows(
      jnp.asarray(given['audio']), config.temporal_stride
  )
  found = dict(
      time_sinusoid=stages['sinusoid'],
      time_embedding=stages['embedding'],
      time_projection=stages['modulation'],
      audio_group=later,
      audio_proj=stages['context'],
      block0_in=stages['tokens'],
      block0=stages['block'],
      output=stages['output'],
  )
  for output in golden.outputs:
    if output.startswith('probe_'):
      name = output.removeprefix('probe_')
      found[output] = formula.probe(
          f'{golden.meta["tag"]}probe.{name}', found[name]
      )
    elif output.endswith('_sub'):
      found[output] = found[output.removesuffix('_sub')]
  return found


def _flashhead_inputs(golden: golden_lib.Golden) -> dict[str, np.ndarray]:
  """Inputs that the file stores, or defines by the formula."""
  if 'formula' in golden.meta:
    tag = golden.meta['tag']
    raw = {
        key: formula.hash_tensor(
            f'{tag}in.{key}', tuple(shape), formula.INPUT_SCALE
        )
        for key, shape in golden.meta['input_shapes'].items()
    }
    raw['timestep'] = np.array([golden.meta['timestep']], np.float32)
  else:
    raw = {key: golden[f'in.{key}'] for key in ('x', 'y', 'context')}
    raw['timestep'] = golden['in.timestep']
  return dict(
      x=channels_last(raw['x']),
      timestep=raw['timestep'],
      reference=channels_last(raw['y']),
      audio=raw['context'],
  )
