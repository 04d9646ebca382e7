"""wav2vec2: parity with the public one, video time."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wav2vec2 as layouts
from asymtalker_jax.inputs import audio
from asymtalker_jax.models import wav2vec2
from tests import golden_file

SMALL = wav2vec2.Wav2Vec2Config(
    width=8,
    depth=1,
    heads=2,
    ffn=16,
    conv_channels=(4,) * 7,
    conv_norm='layer',
    conv_bias=True,
    position_kernel=4,
    position_groups=2,
    norm_first=True,
)


@functools.cache
def reference(norm):
  """(golden file, config, converted parameters)."""
  golden = golden_file.load(f'wav2vec2_{norm}')
  config = layouts.config_of(golden.meta['config'])
  weights = golden.weights()
  table = layouts.table_of(weights)
  return golden, config, rules.convert(weights, table, layouts.targets(config))


@functools.cache
def small_params():
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: np.float32(x + 0.3 * rng.normal(size=x.shape)),
      wav2vec2.init(SMALL, jax.random.key(0)),
  )


def sound(frames, extra=0):
  """Prepared noise that lasts `frames` video frames and `extra` samples."""
  samples = frames * wav2vec2.SAMPLES_PER_FRAME + extra
  noise = np.random.default_rng(1).normal(size=samples)
  swell = 1.0 + np.sin(np.arange(samples) / 3000.0)
  return wav2vec2.prepare_waveform(np.float32(noise * swell))


encode = jax.jit(wav2vec2.encode, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=(0, 3))
def stages(config, params, waveform, frames):
  """What the golden files record on the way to the output."""
  call = functools.partial(wav2vec2.Wav2Vec2(config).apply, {'params': params})
  both = jnp.stack([waveform, waveform[::-1]])
  plain = call(both)
  features = call(waveform[None], method='features')
  spread = wav2vec2.interpolate(features, frames)
  states = call(waveform[None], frames)
  raw = functools.partial(call, method='states', final_norm=False)
  return dict(
      conv_features=features,
      interpolated_features=spread,
      hidden_states=jnp.stack(states),
      last_hidden_state=states[-1],
      last_layer_before_final_norm=raw(spread)[-1],
      audio_emb=wav2vec2.encode(config, params, waveform, frames),
      plain_hidden_states=jnp.stack(plain)[:, :1],
      plain_last_hidden_state=plain[-1][:1],
      plain_batch2_flipped=plain[-1][1:],
      plain_last_layer_before_final_norm=raw(features)[-1],
  )


@pytest.mark.parametrize('norm', ['group', 'layer'])
def test_network_equals_the_reference(norm):
  golden, config, params = reference(norm)
  waveform = wav2vec2.prepare_waveform(golden.tensors['in.waveform'])
  golden.check('input_values_sub', waveform[None, ::8])
  found = stages(config, params, waveform, 50)
  for output, value in found.items():
    if 'out.' + output in golden.tensors:
      golden.check(output, value)
  recorded = {k for k in golden.tensors if k.startswith('out.')}
  windows = {'out.audio_embedding_once_ends', 'out.audio_embedding_range'}
  others = {'out.input_values_sub'} | windows
  assert recorded - others <= {'out.' + output for output in found}

  features = np.asarray(found['audio_emb'])
  whole = audio.window_features(features, 0, 50)
  ends = np.concatenate([whole[:4], whole[-4:]])
  golden.check('audio_embedding_once_ends', ends[None])
  start, end = golden.meta['window_range']
  part = audio.window_features(features[:end], start, end - start)
  golden.check('audio_embedding_range', part[None])


def test_rows_of_a_batch_do_not_mix():
  _, config, params = reference('group')
  rows = np.stack([sound(8), sound(8)[::-1]])
  both = encode(config, params, rows, 8)
  assert both.shape == (2, 8, config.layers, config.channels)
  for row, features in zip(rows, both):
    alone = encode(config, params, row, 8)
    np.testing.assert_allclose(features, alone, atol=1e-5)


def test_every_parameter_has_an_effect_but_key_biases():
  params, waveform = small_params(), sound(3)

  @jax.jit
  def loss(params):
    features = wav2vec2.encode(SMALL, params, waveform, 3)
    weights = np.random.default_rng(2).normal(size=features.shape)
    return (features * weights).sum()

  for path, gradient in rules.flatten(jax.grad(loss)(params)).items():
    size = float(jnp.abs(gradient).max())
    if path.endswith('key/bias'):  # Cancels in the softmax.
      assert size < 1e-5, path
    else:
      assert size > 1e-5, path


def test_interpolation_keeps_both_ends():
  steps = jnp.arange(7.0)[None, :, None]
  found = wav2vec2.interpolate(steps, 5)[0, :, 0]
  np.testing.assert_allclose(found, [0.0, 1.5, 3.0, 4.5, 6.0])
  assert wav2vec2.interpolate(steps, 1)[0, :, 0] == 0.0
  np.testing.assert_array_equal(
      wav2vec2.interpolate(steps[:, :1] + 3.0, 2)[0, :, 0], [3.0, 3.0]
  )


def test_sound_of_another_length_is_cut_or_filled_not_stretched():
  params, waveform = small_params(), sound(9)
  samples = 5 * wav2vec2.SAMPLES_PER_FRAME
  cut = encode(SMALL, params, waveform, 5)
  np.testing.assert_array_equal(
      cut, encode(SMALL, params, waveform[:samples], 5)
  )
  silence = np.zeros(samples // 5 * 4, np.float32)
  filled = np.concatenate([waveform[:samples], silence])
  np.testing.assert_array_equal(
      encode(SMALL, params, waveform[:samples], 9),
      encode(SMALL, params, filled, 9),
  )


def test_prepared_waveform_has_zero_mean_and_unit_variance():
  quiet = 1e-2 * np.random.default_rng(0).normal(size=20000) + 0.3
  found = wav2vec2.prepare_waveform(quiet)
  assert found.dtype == np.float32
  assert abs(found.mean()) < 1e-5
  np.testing.assert_allclose(found.var(), 1e-4 / (1e-4 + 1e-7), rtol=2e-2)
  assert not wav2vec2.prepare_waveform(np.full(5, 0.2)).any()
  assert not wav2vec2.prepare_waveform(np.zeros(0)).size


def test_bfloat16_stays_near_float32():
  _, config, params = reference('group')
  half = dataclasses.replace(config, dtype='bfloat16')
  waveform = sound(8)
  found = encode(half, params, waveform, 8)
  assert found.dtype == jnp.float32
  exact = np.asarray(encode(config, params, waveform, 8))
  error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
  assert 1e-4 < error < 3e-2


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(conv_norm='batch'), 'conv_norm'),
        (dict(dtype='float16'), 'dtype'),
        (dict(heads=5), 'heads=5'),
        (dict(conv_strides=(5, 2)), 'conv_strides'),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    wav2vec2.Wav2Vec2Config(**change)


def test_too_little_sound_is_refused():
  with pytest.raises(ValueError, match='at least 400'):
    wav2vec2.Wav2Vec2(SMALL).apply(
        {'params': small_params()}, np.zeros((1, 399), np.float32)
    )
  with pytest.raises(ValueError, match='0 frames'):
    wav2vec2.encode(SMALL, small_params(), sound(1), 0)
