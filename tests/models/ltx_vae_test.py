"""LTX video VAE: parity with the public ones, causality, refusals."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.convert import ltx_vae as layouts
from asymtalker_jax.convert import rules
from asymtalker_jax.models import causal_conv
from asymtalker_jax.models import ltx_vae
from tests import golden_file


# Every kind of parameter, little to compile.
SMALL = ltx_vae.LtxVaeConfig(
    encoder_blocks=[('compress_all', 1), ('res_x_y', 1)],
    decoder_blocks=[
        ('compress_all', {'residual': True, 'multiplier': 2}),
        ('res_x', {'inject_noise': True}),
    ],
    encoder_base_channels=4,
    decoder_base_channels=4,
    latent_channels=4,
    patch_size=2,
    timestep_conditioning=True,
)


@functools.cache
def small_params():
  # Random everywhere: layers that start at zero would hide mistakes.
  rng = np.random.default_rng(0)
  flat = {}
  for path, target in rules.flatten(layouts.targets(SMALL)).items():
    one = path.endswith(('norm3/scale', 'std'))
    fan_in = np.prod(target.shape[:-1])
    scale = 0.1 if len(target.shape) < 2 else fan_in**-0.5
    flat[path] = np.float32(one + scale * rng.normal(size=target.shape))
  return rules.unflatten(flat)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames='clamp')
def call(config, method, params, *args, **kwargs):
  return ltx_vae.LtxVae(config).apply(
      {'params': params}, *args, **kwargs, method=method
  )


@functools.cache
def reference(name):
  """(golden file, config, converted parameters)."""
  golden = golden_file.load(f'ltx_vae_{name}')
  config = layouts.config_of(golden.meta['config'])
  diffusers = name == 'diffusers'
  make = layouts.diffusers_table if diffusers else layouts.original_table
  targets = layouts.targets(config)
  params = rules.convert(golden.weights(), make(config), targets)
  return golden, config, params


def channels_last(x):
  return np.moveaxis(x, -4, -1)


def channels_first(x):
  return np.moveaxis(np.asarray(x), -1, -4)


def decode_noise(golden):
  names = sorted(k for k in golden.tensors if k.startswith('noise.decode_'))
  return [golden.tensors[name] for name in names]


def test_moments_equal_the_original_implementation():
  golden, config, params = reference('orig')
  v = channels_last(golden.tensors['in.video'])
  both = np.concatenate([v, v[:, :, :, ::-1]])
  mean, logvar = call(config, 'moments', params, both)
  golden.check('moments_mean', channels_first(mean))
  golden.check('moments_logvar', channels_first(logvar))


def test_encode_equals_the_original_implementation():
  golden, config, params = reference('orig')
  v = channels_last(golden.tensors['in.video'])
  names = {'latent': 'encode_eps', 'motion_latent': 'motion_eps'}
  for output, name in names.items():
    # The motion frames are the last 9.
    noise = channels_last(golden.tensors[f'noise.{name}'])
    latents = call(config, 'encode', params, v[:, -9:], noise)
    golden.check(output, channels_first(latents[0]))


def test_decode_equals_the_original_implementation():
  golden, config, params = reference('orig')
  latents = channels_last(golden.tensors['out.latent'])[None]
  raw = channels_first(call(config, 'decode', params, latents, clamp=False))
  golden.check('decoded', raw[..., ::2, ::2])
  first = call(config, 'decode', params, latents[:, :1], clamp=False)
  golden.check('decoded_first_frame', channels_first(first)[..., ::2, ::2])


def test_conditioned_variant_equals_the_original_implementation():
  golden, config, params = reference('orig_ts')
  v = channels_last(golden.tensors['in.video'])
  mean, logvar = call(config, 'moments', params, v)
  golden.check('moments_mean', channels_first(mean))
  golden.check('moments_logvar', channels_first(logvar))
  latents = call(config, 'normalise', params, mean)
  golden.check('latent', channels_first(latents))


def test_conditioned_decode_equals_the_original_implementation():
  golden, config, params = reference('orig_ts')
  latents = channels_last(golden.tensors['out.latent'])
  timestep, noise = golden.tensors['in.timestep'], decode_noise(golden)
  shapes = config.noise_shapes(*latents.shape[2:4])
  assert shapes == [n.shape for n in noise]
  # Each example of a batch has its own timestep.
  two = np.concatenate([latents, latents])
  later = np.concatenate([timestep, timestep + 0.5])
  both = call(config, 'decode', params, two, later, noise, clamp=False)
  golden.check('decoded', channels_first(both[:1]))
  assert np.abs(both[1] - both[0]).max() > 0.01


def test_moments_and_decode_equal_diffusers():
  golden, config, params = reference('diffusers')
  v = channels_last(golden.tensors['in.video'])
  mean, logvar = call(config, 'moments', params, v)
  golden.check('latent_mean', channels_first(mean))
  golden.check('latent_logvar', channels_first(logvar))
  latents = call(config, 'encode', params, v)
  golden.check('latent_normalized', channels_first(latents))
  latents = channels_last(golden.tensors['out.latent_normalized'])
  decoded = channels_first(call(config, 'decode', params, latents, clamp=False))
  golden.check('decoded', decoded[..., ::2, ::2])


def test_encoder_never_looks_ahead():
  _, config, params = reference('orig_ts')
  v = jax.random.uniform(jax.random.key(0), (2, 17, 16, 32, 3), minval=-1)
  latents = call(config, 'encode', params, v)
  assert latents.shape == (2, 3, 1, 2, 9) and latents.dtype == jnp.float32
  np.testing.assert_allclose(
      call(config, 'encode', params, v[:, :9]), latents[:, :2], atol=2e-6
  )


def test_strides_of_the_published_sizes():
  full = ltx_vae.LtxVaeConfig()
  assert (full.temporal_stride, full.spatial_stride) == (8, 32)
  assert full.deep_channels == 512
  _, config, _ = reference('orig_ts')
  assert (config.temporal_stride, config.spatial_stride) == (8, 16)


def test_config_survives_json():
  _, config, _ = reference('orig_ts')
  values = json.loads(json.dumps(dataclasses.asdict(config)))
  assert ltx_vae.LtxVaeConfig(**values) == config


def test_folding_keeps_the_order_of_the_reference():
  x = np.arange(2 * 2 * 4 * 6 * 3).reshape(2, 2, 4, 6, 3)
  y = ltx_vae.fold(x, (2, 2, 3))
  assert y.shape == (2, 1, 2, 2, 36)
  # Channel first, then frame, row and column within the folded box.
  np.testing.assert_array_equal(
      y[1, 0, 1, 0].reshape(3, 2, 2, 3), np.moveaxis(x[1, :, 2:, :3], -1, 0)
  )
  np.testing.assert_array_equal(ltx_vae.unfold(y, (2, 2, 3)), x)


@pytest.mark.parametrize('causal', [True, False])
@pytest.mark.parametrize('padding', ['zeros', 'replicate', 'reflect'])
@pytest.mark.parametrize('stride', [(1, 1), (2, 2)])
def test_convolution_is_the_sum_over_its_definition(causal, padding, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 5, 4, 6, 2)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, 2, 3)).astype(np.float32)
  conv = causal_conv.ReplicatedConv(
      3, causal_conv.ConvStyle(causal, padding, 'float32'), stride
  )
  params = {'kernel': kernel, 'bias': np.ones(3, np.float32)}
  found = conv.apply({'params': params}, x)
  ends = (2, 0) if causal else (1, 1)
  wide = np.pad(x, ((0, 0), ends) + ((0, 0),) * 3, mode='edge')
  mode = {'zeros': 'constant', 'replicate': 'edge', 'reflect': 'reflect'}
  sides = ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0))
  wide = np.pad(wide, sides, mode=mode[padding])
  windows = np.lib.stride_tricks.sliding_window_view(
      wide, (3, 3, 3), axis=(1, 2, 3)
  )
  windows = windows[:, :: stride[0], :: stride[1], :: stride[1]]
  wanted = 1 + np.einsum('bthwizyx,zyxio->bthwo', windows, kernel)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_decoded_video_is_clamped_and_float32():
  latents = 10 * jax.random.normal(jax.random.key(0), (1, 2, 2, 3, 4))
  args = (small_params(), latents, jnp.zeros(1))
  raw = call(SMALL, 'decode', *args, clamp=False)
  assert raw.shape == (1, 3, 8, 12, 3) and raw.dtype == jnp.float32
  assert np.abs(raw).max() > 1
  np.testing.assert_array_equal(
      call(SMALL, 'decode', *args), np.clip(raw, -1, 1)
  )


def test_gradients_are_finite_and_reach_every_layer():
  v = jax.random.uniform(jax.random.key(0), (1, 3, 8, 8, 3), minval=-1)
  noise = [jnp.full(s, 0.5) for s in SMALL.noise_shapes(2, 2)]

  def loss(p):
    vae = ltx_vae.LtxVae(SMALL).bind({'params': p})
    latents = vae.encode(v, jnp.ones((1, 2, 2, 2, 4)))
    return jnp.abs(vae.decode(latents, jnp.full(1, 0.05), noise)).mean()

  grads = rules.flatten(jax.jit(jax.grad(loss))(small_params()))
  for path, grad in grads.items():
    assert np.isfinite(grad).all(), path
    statistics = path in ('latent_mean', 'latent_std')
    assert (np.abs(grad).max() > 0) != statistics, path


def test_bfloat16_stays_close_and_returns_float32():
  golden, config, params = reference('orig')
  half = dataclasses.replace(config, dtype='bfloat16')
  v = channels_last(golden.tensors['in.video'])[:, :, :32, :32]
  exact = call(config, 'encode', params, v)
  rounded = call(half, 'encode', params, v)
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
  assert call(half, 'decode', params, exact).dtype == jnp.float32


@pytest.mark.parametrize(
    'shape, words',
    [
        ((1, 8, 32, 32, 3), '8 video frames: expected 1 \\+ a multiple of 8'),
        ((1, 0, 32, 32, 3), '0 video frames'),
        ((1, 9, 48, 32, 3), '48x32 pixels: expected multiples of 32'),
        ((9, 32, 32, 3), r'expected \[B, F, H, W, 3\]'),
    ],
)
def test_video_that_does_not_fit_is_refused(shape, words):
  _, config, params = reference('orig')
  with pytest.raises(ValueError, match=words):
    call(config, 'encode', params, jnp.zeros(shape))


def test_conditions_that_do_not_fit_are_refused():
  _, config, params = reference('orig')
  latents = jnp.zeros((1, 1, 1, 1, 12))
  with pytest.raises(ValueError, match='a timestep for a decoder'):
    call(config, 'decode', params, latents, jnp.zeros(1))
  with pytest.raises(ValueError, match='noise of shapes'):
    call(config, 'decode', params, latents, None, [jnp.zeros((1, 1))])
  _, config, params = reference('orig_ts')
  with pytest.raises(ValueError, match='no timestep for a decoder'):
    call(config, 'decode', params, jnp.zeros((1, 1, 1, 1, 9)))


@pytest.mark.parametrize(
    'change, words',
    [
        ({'encoder_blocks': [('attn_res_x', 1)]}, "'attn_res_x': expected one"),
        ({'encoder_blocks': [('res_x', 4)]}, r'strides \[1, 1\]'),
        ({'decoder_blocks': [('res_x', {'layers': 4})]}, "'num_layers'"),
        (
            {'decoder_blocks': [('res_x_y', {'inject_noise': True})]},
            "expected in 'res_x'",
        ),
        ({'spatial_padding_mode': 'circular'}, "'circular': expected one of"),
        ({'dtype': 'int8'}, "'int8': expected float32 or bfloat16"),
    ],
)
def test_inconsistent_configs_are_refused(change, words):
  with pytest.raises(ValueError, match=words):
    ltx_vae.LtxVaeConfig(**change)


def test_a_width_that_is_no_whole_number_is_refused():
  config = ltx_vae.LtxVaeConfig(encoder_base_channels=3)
  block = dataclasses.replace(config.encoder_blocks[2], multiplier=1.5)
  with pytest.raises(ValueError, match='width of 4.5: expected a whole'):
    block.widen(3)
