import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import dit
from asymtalker_jax.models import rope
from tests import golden_file

CONFIG = dit.DiTConfig(
    width=48,
    depth=2,
    heads=2,
    ffn=96,
    latent_channels=16,
    frequency_dim=64,
    cross_attention='text',
    text_dim=32,
)
TALKING = dataclasses.replace(
    CONFIG,
    cross_attention='audio',
    audio_layers=2,
    audio_channels=3,
    audio_hidden=16,
    audio_tokens=2,
)


@pytest.fixture(name='golden', scope='module')
def _golden():
  return golden_file.load('wan_dit')


@pytest.fixture(name='params', scope='module')
def _params(golden):
  return rules.convert(
      golden.weights(),
      wan_dit.diffusers_table(CONFIG),
      wan_dit.targets(CONFIG),
  )


def _inputs(golden):
  x = jnp.moveaxis(jnp.asarray(golden.tensors['in.hidden_states']), 1, -1)
  text = jnp.asarray(golden.tensors['in.encoder_hidden_states'])
  return x, jnp.asarray(golden.tensors['in.timestep']), text


def test_network_equals_the_reference(golden, params):
  model, variables = dit.DiT(CONFIG), {'params': params}
  x, timestep, text = _inputs(golden)
  embedding, modulation = jax.jit(
      functools.partial(model.apply, method='time')
  )(variables, timestep)
  golden.check('temb', embedding[:, 0])
  golden.check('timestep_proj', modulation.reshape(1, -1))
  context = model.apply(variables, text=text, method='context')
  golden.check('text_embedded', context[:, 0])
  block, _ = jax.jit(dit.Block(CONFIG).apply)(
      {'params': jax.tree.map(lambda p: p[0], params['blocks'])},
      model.apply(variables, x, method='tokens'),
      modulation,
      tuple(x.reshape(3, 24, -1) for x in rope.rotation(24, (3, 4, 6))),
      context,
  )
  golden.check('block0', block.reshape(1, 72, 48))
  output = jax.jit(model.apply)(variables, x, timestep, text=text)
  golden.check('output', jnp.moveaxis(output, -1, 1))


def test_one_timestep_per_frame_equals_the_reference_per_token(golden, params):
  x, _, text = _inputs(golden)
  per_token = golden.tensors['in.timestep_per_token'].reshape(1, 3, 24)
  assert (per_token == per_token[..., :1]).all()
  output = jax.jit(dit.DiT(CONFIG).apply)(
      {'params': params}, x, jnp.asarray(per_token[..., 0]), text=text
  )
  golden.check('output_per_token_t', jnp.moveaxis(output, -1, 1))


def test_both_layouts_return_the_same_parameters(golden, params):
  tables = wan_dit.diffusers_table(CONFIG), wan_dit.original_table(CONFIG)
  exported = [rules.export(params, table) for table in tables]
  for key, value in golden.weights().items():
    np.testing.assert_array_equal(exported[0][key], value, err_msg=key)
  again = rules.convert(exported[1], tables[1], wan_dit.targets(CONFIG))
  chex.assert_trees_all_equal(again, params)


def test_full_size_has_as_many_parameters_as_the_checkpoint():
  config = dit.DiTConfig(
      width=1536,
      depth=30,
      heads=12,
      ffn=8960,
      latent_channels=16,
      cross_attention='text',
  )
  shapes = jax.tree.leaves(wan_dit.targets(config))
  assert sum(int(np.prod(x.shape)) for x in shapes) == 1_418_996_800


def _talking_inputs(golden):
  x, timestep, _ = _inputs(golden)
  rng = np.random.default_rng(0)
  audio = rng.normal(size=(1, 9, 5, 2, 3)).astype(np.float32)
  return dict(x=x, timestep=timestep, reference=x[..., ::-1], audio=audio)


def test_start_from_text_to_video_ignores_the_reference(golden, params):
  inputs, model = _talking_inputs(golden), dit.DiT(TALKING)
  fresh = jax.jit(model.init)(jax.random.key(0), **inputs)['params']
  start, new = wan_dit.start_from_text_to_video(params, fresh, TALKING)
  assert [line.split('/')[0].split(':')[0] for line in new] == [
      'patch_embedding', 'audio_projection'
  ]
  variables = {'params': start}
  got = model.apply(variables, inputs['x'], inputs['reference'],
                    method='tokens')
  want = dit.DiT(CONFIG).apply(
      {'params': params}, inputs['x'], method='tokens'
  )
  np.testing.assert_allclose(got, want, atol=1e-5)
  run = jax.jit(model.apply)
  velocity = run(variables, **inputs)
  other = run(variables, **{**inputs, 'reference': 0 * inputs['x']})
  np.testing.assert_array_equal(velocity, other)
  assert np.abs(velocity).max() > 0.1


def test_start_from_another_size_lists_what_differs(golden, params):
  config = dataclasses.replace(TALKING, ffn=64)
  init = jax.jit(dit.DiT(config).init)
  fresh = init(jax.random.key(0), **_talking_inputs(golden))
  with pytest.raises(ValueError, match=r'ffn_in/kernel: \(2, 48, 96\)'):
    wan_dit.start_from_text_to_video(params, fresh['params'], config)
