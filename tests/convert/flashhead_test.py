import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import audio_projection
from asymtalker_jax.models import dit
from asymtalker_jax.models import embeddings
from asymtalker_jax.models import rope
from asymtalker_jax.parity import formula as formula_weights
from tests import golden_file


def _config(meta, **audio):
  """Our configuration for a golden file's."""
  config = meta['config']
  audio = audio or dict(
      audio_layers=meta['patched_constants']['blocks'],
      audio_channels=meta['patched_constants']['channels'],
      audio_hidden=meta['patched_constants']['intermediate_dim'],
      audio_tokens=meta['patched_constants']['context_tokens'],
  )
  return dit.DiTConfig(
      width=config['dim'],
      depth=config['num_layers'],
      heads=config['num_heads'],
      ffn=config['ffn_dim'],
      latent_channels=config['out_dim'],
      patch=config['patch_size'],
      frequency_dim=config['freq_dim'],
      temporal_stride=config['vae_stride'][0],
      **audio,
  )


def _last(x):
  """[B, C, ...] -> [B, ..., C]."""
  return jnp.moveaxis(jnp.asarray(x), 1, -1)


@functools.partial(jax.jit, static_argnums=0)
def _stages(config, params, inputs):
  """What the golden files record on the way to the output."""
  model, variables = dit.DiT(config), {'params': params}
  x = model.apply(variables, inputs['x'], inputs['reference'], method='tokens')
  embedding, modulation = model.apply(
      variables, inputs['timestep'], method='time'
  )
  context = model.apply(variables, inputs['audio'], method='context')
  _, t, h, w, _ = inputs['x'].shape
  grid = (t, h // config.patch[1], w // config.patch[2])
  rotation = tuple(
      angle.reshape(t, -1, angle.shape[-1])
      for angle in rope.rotation(config.width // config.heads, grid)
  )
  first = jax.tree.map(lambda p: p[0], params['blocks'])
  y, _ = dit.Block(config).apply(
      {'params': first}, x, modulation, rotation, context
  )
  flat = (x.shape[0], -1, config.width)
  return dict(
      time_sinusoid=embeddings.sinusoid(
          inputs['timestep'], config.frequency_dim
      ),
      time_embedding=embedding[:, 0],
      time_projection=modulation.reshape(1, -1),
      audio_proj=context,
      block0_in=x.reshape(flat),
      block0=y.reshape(flat),
      output=jnp.moveaxis(model.apply(variables, **inputs), -1, 1),
  )


def _load(name):
  golden = golden_file.load(name)
  config = _config(golden.meta)
  params = rules.convert(
      golden.weights(), flashhead.table(config), wan_dit.targets(config)
  )
  inputs = dict(
      x=_last(golden.tensors['in.x']),
      timestep=jnp.asarray(golden.tensors['in.timestep']),
      reference=_last(golden.tensors['in.y']),
      audio=jnp.asarray(golden.tensors['in.context']),
  )
  return golden, config, params, inputs


@pytest.mark.parametrize('name', ['flashhead_dit_pro', 'flashhead_dit_lite'])
def test_network_equals_the_reference(name):
  golden, config, params, inputs = _load(name)
  for output, value in _stages(config, params, inputs).items():
    golden.check(output, value)
  _, later = audio_projection.group_windows(
      inputs['audio'], config.temporal_stride
  )
  golden.check('audio_group', later)


def test_export_returns_the_checkpoint_bit_for_bit():
  golden, config, params, _ = _load('flashhead_dit_lite')
  exported = rules.export(params, flashhead.table(config))
  assert exported.keys() == golden.weights().keys()
  for key, value in golden.weights().items():
    np.testing.assert_array_equal(exported[key], value, err_msg=key)


@pytest.mark.parametrize(
    'name', ['flashhead_dit_pro_real', 'flashhead_dit_lite_real']
)
def test_block_of_the_released_width_equals_the_reference(name):
  golden = golden_file.load(name)
  meta, tag = golden.meta, golden.meta['tag']
  config = _config(meta, audio_layers=12, audio_channels=768)

  def made(key):
    shape, spec = meta['formula']['shapes'][key], meta['formula']['specs'][key]
    return formula_weights.hash_tensor(tag + key, tuple(shape), *spec)

  def given(key):
    shape = tuple(meta['input_shapes'][key])
    return formula_weights.hash_tensor(f'{tag}in.{key}', shape, 1.7320508)

  params = rules.convert(
      {key: made(key) for key in meta['formula']['shapes']},
      flashhead.table(config),
      wan_dit.targets(config),
  )
  inputs = dict(
      x=_last(given('x')),
      timestep=jnp.asarray([meta['timestep']], jnp.float32),
      reference=_last(given('y')),
      audio=jnp.asarray(given('context')),
  )
  stages = _stages(config, params, inputs)
  golden.check('output', stages['output'])
  golden.check('block0_sub', stages['block0'][:, ::3, ::37])
  golden.check('audio_proj_sub', stages['audio_proj'][:, :, ::5, ::61])
  golden.check('time_projection_sub', stages['time_projection'][:, ::17])
  for key in ('block0', 'audio_proj', 'time_embedding'):
    value = formula_weights.probe(f'{tag}probe.{key}', stages[key])
    golden.check(f'probe_{key}', value)


@pytest.mark.parametrize(
    'patch, channels, stride, total, unused',
    [
        ((1, 2, 2), 16, 4, 1_507_694_912, 10_430_208),
        ((1, 1, 1), 128, 8, 1_526_864_256, 10_430_208),
    ],
    ids=['pro', 'lite'],
)
def test_released_sizes_have_as_many_parameters_as_the_checkpoint(
    patch, channels, stride, total, unused
):
  config = dit.DiTConfig(
      width=1536,
      depth=30,
      heads=12,
      ffn=8960,
      patch=patch,
      latent_channels=channels,
      temporal_stride=stride,
  )
  shapes = jax.tree.leaves(wan_dit.targets(config))
  assert sum(int(np.prod(x.shape)) for x in shapes) == total - unused
