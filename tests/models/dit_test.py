import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

from asymtalker_jax.models import dit

TINY = dit.DiTConfig(
    width=24,
    depth=2,
    heads=2,
    ffn=32,
    latent_channels=3,
    frequency_dim=16,
    audio_layers=2,
    audio_channels=3,
    audio_hidden=16,
    audio_tokens=2,
    remat='none',
)
BATCH, FRAMES, HEIGHT, WIDTH = 2, 3, 4, 6


def _inputs():
  rng = np.random.default_rng(0)
  latents = (BATCH, FRAMES, HEIGHT, WIDTH, TINY.latent_channels)
  windows = (BATCH, 9, 5, TINY.audio_layers, TINY.audio_channels)
  return dict(
      x=rng.normal(size=latents).astype(np.float32),
      timestep=np.float32([300, 900]),
      reference=rng.normal(size=latents).astype(np.float32),
      audio=rng.normal(size=windows).astype(np.float32),
  )


def _start(config):
  init = jax.jit(dit.DiT(config).init)
  return init(jax.random.key(0), **_inputs())['params']


def _init(config, spread=0.05):
  """Parameters away from the zeros that hide half of the network."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: x + spread * rng.normal(size=x.shape).astype(np.float32),
      _start(config),
  )


@pytest.fixture(name='params', scope='module')
def _params():
  return _init(TINY)


@functools.partial(jax.jit, static_argnums=0)
def _run(config, params, inputs):
  return dit.DiT(config).apply({'params': params}, **inputs)


def _apply(params, config=TINY, **changes):
  return np.asarray(_run(config, params, {**_inputs(), **changes}))


def test_velocity_has_the_shape_of_the_latents_and_starts_at_zero():
  velocity = _apply(_start(TINY))
  assert velocity.shape == (BATCH, FRAMES, HEIGHT, WIDTH, 3)
  assert velocity.dtype == np.float32 and not velocity.any()


def test_params_are_stacked_over_depth(params):
  assert params['blocks']['modulation'].shape == (2, 6, 24)
  assert all(x.shape[0] == 2 for x in jax.tree.leaves(params['blocks']))
  # Different layers start differently.
  kernel = params['blocks']['ffn_in']['kernel']
  assert not np.allclose(kernel[0], kernel[1])


def test_gradient_reaches_every_parameter(params):
  grads = jax.jit(
      jax.grad(lambda p: (_run(TINY, p, _inputs()) ** 2).sum())
  )(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    rows = np.abs(np.asarray(grad)).reshape(grad.shape[0], -1).max(axis=1)
    name = jax.tree_util.keystr(path)
    if name.endswith("['key']['linear']['bias']"):
      # Nearly cancels in the softmax: only the RMS norm sees it.
      assert rows.max() > 0, name
    else:
      assert (rows > 1e-6).mean() > 0.4, name


@pytest.mark.parametrize('remat', ['full', 'dots'])
def test_remat_changes_neither_result_nor_gradient(params, remat):
  def grads(config):
    def loss(p):
      return (_run(config, p, _inputs()) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))(params)

  want = grads(TINY)
  got = grads(dataclasses.replace(TINY, remat=remat))
  chex.assert_trees_all_close(got, want, atol=2e-5)


def test_one_timestep_per_frame_equals_one_per_clip(params):
  per_frame = np.tile(_inputs()['timestep'][:, None], (1, FRAMES))
  np.testing.assert_allclose(
      _apply(params, timestep=per_frame), _apply(params), atol=1e-5
  )
  per_frame[:, 0] = 0
  assert np.abs(_apply(params, timestep=per_frame) - _apply(params)).max() > .01


def test_examples_do_not_see_each_other(params):
  inputs, both = _inputs(), _apply(params)
  for b in range(BATCH):
    alone = _apply(params, **{k: v[b : b + 1] for k, v in inputs.items()})
    np.testing.assert_allclose(alone[0], both[b], atol=1e-5)


@pytest.mark.parametrize('name', ['x', 'reference', 'audio', 'timestep'])
def test_every_input_matters(params, name):
  changed = _apply(params, **{name: _inputs()[name] * 0.5})
  assert np.abs(changed - _apply(params)).max() > 1e-3


def test_audio_reaches_only_its_own_latent_frame():
  # In one block the audio comes after self-attention: no later mixing.
  config = dataclasses.replace(TINY, depth=1)
  params, audio = _init(config), _inputs()['audio']
  before = _apply(params, config)
  audio[:, 5:9] += 1.0  # The video frames of latent frame 2.
  change = np.abs(_apply(params, config, audio=audio) - before)
  assert change[:, 2].max() > 1e-3
  np.testing.assert_array_equal(change[:, :2], 0)


def test_bfloat16_is_close_and_returns_float32(params):
  got = _apply(params, dataclasses.replace(TINY, dtype='bfloat16'))
  want = _apply(params)
  assert got.dtype == np.float32
  assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize(
    'field, value, choices',
    [
        ('remat', 'some', 'none, full, dots'),
        ('dtype', 'float64', 'float32, bfloat16'),
        ('cross_attention', 'image', 'audio, text'),
        ('heads', 5, 'multiple of heads=5'),
        ('heads', 12, 'head width 2'),
        ('patch', (2, 2, 2), r'\(1, ph, pw\)'),
        ('temporal_stride', 1, 'at least 2'),
    ],
)
def test_config_that_cannot_run_is_refused(field, value, choices):
  with pytest.raises(ValueError, match=choices):
    dataclasses.replace(TINY, **{field: value})


def test_audio_of_another_length_is_refused(params):
  with pytest.raises(ValueError, match='5 frames for 3 latent frames.*9'):
    _apply(params, audio=_inputs()['audio'][:, :5])


def test_without_self_attention_tokens_do_not_see_each_other(params):
  config = dataclasses.replace(TINY, depth=1)
  alone = {**params, 'blocks': jax.tree.map(lambda x: x[:1], params['blocks'])}
  weak = dit.without_self_attention(alone, 0)
  other = _inputs()['x']
  other[:, :, :2, :2] += 1.0  # One token of each frame.
  for tree, spreads in ((alone, True), (weak, False)):
    moved = _apply(tree, config) != _apply(tree, config, x=other)
    assert moved[:, :, :2, :2].any()
    moved[:, :, :2, :2] = False
    assert moved.any() == spreads


def test_without_self_attention_leaves_the_other_blocks(params):
  weak = dit.without_self_attention(params, 1)
  first = lambda tree: jax.tree.map(lambda x: x[0], tree['blocks'])
  chex.assert_trees_all_equal(first(weak), first(params))
  with pytest.raises(ValueError, match='block 2: expected 0 to 1'):
    dit.without_self_attention(params, 2)
