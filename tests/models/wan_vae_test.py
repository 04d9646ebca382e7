"""Causal video VAE: parity with the public one, causality, streams."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae as layouts
from asymtalker_jax.models import wan_vae
from tests import golden_file

# Folded pixels, and one stage that halves time only.
SMALL = wan_vae.WanVaeConfig(
    patch_size=2,
    base_channels=4,
    multipliers=(1, 2, 2),
    strides=((2, 2), (1, 2)),
    res_blocks=1,
    latent_channels=4,
)


@functools.cache
def small_params():
  # Random everywhere: layers that start at zero would hide mistakes.
  rng = np.random.default_rng(0)
  flat = {}
  for path, target in rules.flatten(layouts.targets(SMALL)).items():
    one = path.endswith(('gamma', 'std'))
    fan_in = np.prod(target.shape[:-1])
    scale = 0.1 if len(target.shape) == 1 else fan_in**-0.5
    flat[path] = np.float32(one + scale * rng.normal(size=target.shape))
  return rules.unflatten(flat)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames='clamp')
def call(config, method, params, *args, **kwargs):
  return wan_vae.WanVae(config).apply(
      {'params': params}, *args, **kwargs, method=method
  )


def video(frames, side=8):
  shape = (1, frames, side, side, 3)
  return jax.random.uniform(jax.random.key(2), shape, minval=-1, maxval=1)


@functools.cache
def reference(name):
  """(golden file, config, converted parameters)."""
  golden = golden_file.load(f'wan_vae_{name}')
  meta = golden.meta['config']
  base = meta['dim' if name == 'orig' else 'base_dim']
  config = wan_vae.WanVaeConfig(
      base_channels=base,
      multipliers=meta['dim_mult'],
      strides=[(2, 2 if t else 1) for t in meta['temperal_downsample']],
      res_blocks=meta['num_res_blocks'],
      latent_channels=meta['z_dim'],
  )
  if name == 'orig':
    table = layouts.original_table(config)
  else:
    table = layouts.diffusers_table(
        config, meta['latents_mean'], meta['latents_std']
    )
  params = rules.convert(golden.weights(), table, layouts.targets(config))
  return golden, config, params


def channels_last(x):
  return np.moveaxis(x, -4, -1)


def channels_first(x):
  return np.moveaxis(np.asarray(x), -1, -4)


@pytest.mark.parametrize(
    'output, frames',
    [
        ('latent', slice(None)),
        ('first_frame_latent', slice(0, 1)),
        ('motion_latent', slice(-5, None)),
    ],
)
def test_encode_equals_the_original_implementation(output, frames):
  golden, config, params = reference('orig')
  v = channels_last(golden.tensors['in.video'])[:, frames]
  golden.check(output, channels_first(call(config, 'encode', params, v)[0]))


def test_moments_equal_the_original_implementation():
  golden, config, params = reference('orig')
  v = channels_last(golden.tensors['in.video'])
  _, logvar = call(config, 'moments', params, v)
  golden.check('log_var', channels_first(logvar))


def test_decode_equals_the_original_implementation():
  golden, config, params = reference('orig')
  latents = channels_last(golden.tensors['out.latent'])[None]
  raw = channels_first(call(config, 'decode', params, latents, clamp=False))
  golden.check('decoded_unclamped', raw)
  golden.check('decoded', np.clip(raw, -1, 1)[..., ::2, ::2])


def test_encode_equals_diffusers():
  golden, config, params = reference('diffusers')
  v = channels_last(golden.tensors['in.video'])
  mean, logvar = call(config, 'moments', params, v)
  golden.check('latent_mean', channels_first(mean))
  golden.check('latent_logvar', channels_first(logvar))
  first, _ = call(config, 'moments', params, v[:, :1])
  golden.check('first_frame_latent_mean', channels_first(first))
  latents = call(config, 'encode', params, v)
  golden.check('latent_normalized', channels_first(latents))


def test_decode_equals_diffusers():
  golden, config, params = reference('diffusers')
  latents = channels_last(golden.tensors['out.latent_normalized'])
  golden.check(
      'decoded', channels_first(call(config, 'decode', params, latents))
  )


def test_shapes_and_strides():
  assert (SMALL.spatial_stride, SMALL.temporal_stride) == (4, 4)
  assert wan_vae.WanVaeConfig().spatial_stride == 8
  assert wan_vae.WanVaeConfig().temporal_stride == 4
  latents = call(SMALL, 'encode', small_params(), video(13, 16))
  assert latents.shape == (1, 4, 4, 4, 4) and latents.dtype == jnp.float32
  decoded = call(SMALL, 'decode', small_params(), 10 * latents)
  assert decoded.shape == (1, 13, 16, 16, 3) and decoded.dtype == jnp.float32
  assert np.abs(decoded).max() == 1


def test_wan_2_1_has_126_892_531_weights_and_32_statistics():
  leaves = jax.tree.leaves(layouts.targets(wan_vae.WanVaeConfig()))
  assert sum(leaf.size for leaf in leaves) == 126_892_531 + 32


def test_latents_depend_on_earlier_frames_only():
  v = video(33)
  all_latents = call(SMALL, 'encode', small_params(), v)
  first = call(SMALL, 'encode', small_params(), v[:, :5])
  np.testing.assert_allclose(first, all_latents[:, :2], atol=1e-5)
  changed = call(SMALL, 'encode', small_params(), v.at[:, 5].add(0.5))
  np.testing.assert_array_equal(changed[:, :2], all_latents[:, :2])
  assert (np.abs(changed - all_latents)[:, 2:].max((0, 2, 3, 4)) > 1e-4).all()


def test_frames_depend_on_earlier_latents_only():
  latents = jax.random.normal(jax.random.key(3), (1, 4, 4, 4, 4))
  decoded = call(SMALL, 'decode', small_params(), latents, clamp=False)
  changed = call(
      SMALL, 'decode', small_params(), latents.at[:, 2].add(0.5), clamp=False
  )
  np.testing.assert_array_equal(changed[:, :5], decoded[:, :5])
  assert (np.abs(changed - decoded)[:, 5:].max((0, 2, 3, 4)) > 1e-4).all()


@pytest.mark.parametrize('cuts', [(1, 2, 3), (2, 3)])
def test_a_stream_of_segments_equals_whole_decoding(cuts):
  latents = jax.random.normal(jax.random.key(3), (1, 4, 4, 4, 4))
  whole = call(SMALL, 'decode', small_params(), latents)
  frames, cache = [], None
  for segment in jnp.split(latents, cuts, axis=1):
    video_part, cache = call(
        SMALL, 'decode_step', small_params(), segment, cache
    )
    frames.append(video_part)
  assert frames[0].shape[1] == 1 + 4 * (cuts[0] - 1)
  np.testing.assert_allclose(jnp.concatenate(frames, 1), whole, atol=1e-5)


@pytest.mark.parametrize('frames', [1, 4])  # 4: the last part is smaller.
def test_parts_give_the_same_video_and_gradients_as_all_at_once(frames):
  latents = jax.random.normal(jax.random.key(3), (1, frames, 4, 4, 4))

  def decode(params, parts):
    vae = wan_vae.WanVae(dataclasses.replace(SMALL, decoded_at_once=parts))
    out = vae.apply({'params': params}, latents, clamp=False, method='decode')
    return jnp.square(out).mean(), out

  run = jax.jit(
      jax.value_and_grad(decode, has_aux=True), static_argnums=1
  )
  (_, whole), expected = run(small_params(), 0)
  (_, parts), grads = run(small_params(), 3)
  np.testing.assert_allclose(parts, whole, atol=1e-5)
  chex.assert_trees_all_close(grads, expected, atol=1e-5)
  assert np.abs(grads['decoder']['conv_in']['kernel']).max() > 1e-3


def test_the_state_of_a_stream_does_not_grow():
  latents = jnp.zeros((1, 1, 4, 4, 4))
  _, first = call(SMALL, 'decode_step', small_params(), latents)
  _, second = call(SMALL, 'decode_step', small_params(), latents, first)
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(first) == shapes(second)


def test_latents_are_normalised_by_the_statistics():
  params = dict(
      small_params(),
      latent_mean=jnp.array([1.0, -2.0, 0.5, 0.0]),
      latent_std=jnp.array([2.0, 1.0, 0.5, 4.0]),
  )
  mean, _ = call(SMALL, 'moments', params, video(5))
  latents = call(SMALL, 'encode', params, video(5))
  expected = (mean - params['latent_mean']) / params['latent_std']
  np.testing.assert_allclose(latents, expected, atol=1e-6)


def test_gradients_are_finite_and_reach_every_weight():
  def loss(params, v):
    vae = wan_vae.WanVae(SMALL)
    return jnp.abs(vae.apply({'params': params}, v) - v).mean()

  grads = rules.flatten(jax.jit(jax.grad(loss))(small_params(), video(5)))
  for path, grad in grads.items():
    assert np.isfinite(grad).all(), path
    statistics = path in ('latent_mean', 'latent_std')
    # The head gives mean and log-variance; this loss ignores the latter.
    assert (np.abs(grad).max() > 0) != statistics, path


def test_gradients_are_finite_where_features_are_zero():
  no_bias = {
      path: np.zeros_like(value) if path.endswith('bias') else value
      for path, value in rules.flatten(small_params()).items()
  }

  def total(v):
    params = {'params': rules.unflatten(no_bias)}
    return wan_vae.WanVae(SMALL).apply(params, v, method='encode').sum()

  grey = jnp.zeros((1, 5, 8, 8, 3))
  assert np.isfinite(jax.jit(jax.grad(total))(grey)).all()


def test_bfloat16_stays_close_and_returns_float32():
  config = wan_vae.WanVaeConfig(**{**vars(SMALL), 'dtype': 'bfloat16'})
  exact = call(SMALL, 'encode', small_params(), video(5))
  rounded = call(config, 'encode', small_params(), video(5))
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
  assert call(config, 'decode', small_params(), exact).dtype == jnp.float32


@pytest.mark.parametrize(
    'shape, words',
    [
        ((1, 8, 16, 16, 3), '8 video frames: expected 1 \\+ a multiple of 4'),
        ((1, 5, 18, 16, 3), '18x16 pixels: expected multiples of 4'),
        ((5, 16, 16, 3), r'expected \[B, F, H, W, 3\]'),
    ],
)
def test_video_that_does_not_fit_is_refused(shape, words):
  with pytest.raises(ValueError, match=words):
    call(SMALL, 'encode', small_params(), jnp.zeros(shape))


def test_inconsistent_configs_are_refused():
  with pytest.raises(ValueError, match='2 strides for 4 stages'):
    wan_vae.WanVaeConfig(strides=((2, 1), (2, 2)))
  with pytest.raises(ValueError, match='of 1 or 2'):
    wan_vae.WanVaeConfig(strides=((2, 1), (2, 2), (3, 2)))
  with pytest.raises(ValueError, match="'int8': expected float32 or bfloat16"):
    wan_vae.WanVaeConfig(dtype='int8')
  with pytest.raises(ValueError, match='decoded_at_once -1: expected 0'):
    wan_vae.WanVaeConfig(decoded_at_once=-1)
