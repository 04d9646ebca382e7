"""Bundles: what is saved is loaded, and every way to be broken is one line."""

import json
import shutil

import chex
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import bundle
from asymtalker_jax import sampler_values
from asymtalker_jax.models import variants

MODEL = variants.values_of('micro')
MODEL['vae'].update(base_channels=8, multipliers=(1, 1, 1))
MODEL['dit'].update(width=32, depth=2, heads=2, ffn=32, audio_hidden=8)


@pytest.fixture(scope='module')
def params():
  shapes = jax.eval_shape(variants.build(MODEL).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda s: rng.normal(size=s.shape).astype(np.float32), shapes
  )


@pytest.fixture(scope='module')
def saved(params, tmp_path_factory):
  folder = tmp_path_factory.mktemp('bundle')
  bundle.save(folder, variant='micro', model=MODEL, params=params)
  return folder


@pytest.fixture
def broken(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'broken')


def rewrite(folder, change, part='dit'):
  """Applies `change` to the tensors of a part, keeping the folder's sums."""
  path = folder / f'{part}.safetensors'
  tensors = dict(safetensors.numpy.load(path.read_bytes()))
  change(tensors)
  path.write_bytes(safetensors.numpy.save(tensors))
  config = json.loads((folder / 'config.json').read_text())
  config['sha256'] = {}
  (folder / 'config.json').write_text(json.dumps(config))


def fails(folder, *words):
  with pytest.raises(ValueError) as error:
    bundle.load(folder)
  message = str(error.value)
  assert '\n' not in message
  for word in words:
    assert word in message, message


def test_round_trip_gives_the_same_tensors_and_networks(saved, params):
  loaded = bundle.load(saved)
  assert loaded.networks == variants.build(MODEL)
  assert loaded.config['sampler']['timesteps'] == [1000, 750, 500, 250]
  chex.assert_trees_all_equal(loaded.params, params)


def test_a_cpu_takes_the_parameters_without_a_copy(saved):
  kernel = bundle.load(saved).params['dit']['blocks']['ffn_in']['kernel']
  array = jax.device_put(kernel, jax.devices('cpu')[0])
  assert array.unsafe_buffer_pointer() == kernel.ctypes.data


def test_parts_of_a_bundle(saved):
  assert bundle.parts_of(saved) == ['vae', 'dit']


def test_saving_over_a_bundle_leaves_no_part_of_the_older_one(
    broken, params
):
  bundle.save(
      broken, variant='micro', model=MODEL, params={'vae': params['vae']}
  )
  assert bundle.parts_of(broken) == ['vae']


def test_an_interrupted_save_leaves_the_older_bundle(saved, monkeypatch):
  before = {path.name: path.read_bytes() for path in saved.iterdir()}
  original, written = bundle.tensor_file.write, []

  def interrupted(path, tensors):
    if written:
      raise KeyboardInterrupt
    written.append(path)
    return original(path, tensors)

  monkeypatch.setattr(bundle.tensor_file, 'write', interrupted)
  found = bundle.load(saved, bundle.parts_of(saved))
  other = jax.tree.map(lambda leaf: leaf + 1.0, found.params)
  with pytest.raises(KeyboardInterrupt):
    bundle.save(saved, variant='x', model=MODEL, params=other)
  assert written
  assert before == {path.name: path.read_bytes() for path in saved.iterdir()}


def test_only_the_parts_asked_for_are_read(saved, broken):
  (broken / 'dit.safetensors').unlink()
  assert set(bundle.load(broken, parts=('vae',)).params) == {'vae'}
  with pytest.raises(FileNotFoundError, match='has no teacher'):
    bundle.load(saved, parts=('vae', 'teacher'))


@pytest.mark.parametrize(
    'dtype, numpy_dtype',
    [('float16', np.float16), ('bfloat16', ml_dtypes.bfloat16)],
)
def test_half_precision_is_cast_to_float32(
    params, tmp_path, dtype, numpy_dtype
):
  bundle.save(
      tmp_path, variant='micro', model=MODEL, params=params, dtype=dtype
  )
  def same(path, loaded, original):
    assert loaded.dtype == np.float32
    if not path[-1].key.startswith('latent_'):
      original = original.astype(numpy_dtype).astype(np.float32)
    np.testing.assert_array_equal(loaded, original)
  jax.tree.map_with_path(same, bundle.load(tmp_path).params, params)


def test_all_wrong_tensors_are_listed_at_once(broken):
  def spoil(tensors):
    names = sorted(tensors)
    tensors.pop(names[0])
    tensors['surplus/kernel'] = np.zeros(3, np.float32)
    tensors[names[1]] = np.zeros((7, 1, 7), np.float32)
    tensors[names[2]] = np.full_like(tensors[names[2]], np.nan)
    spoil.names = names
  rewrite(broken, spoil)
  a, b, c = spoil.names[:3]
  fails(
      broken, f'1 missing: {a}', '1 extra: surplus/kernel', f'{b} [7, 1, 7]',
      'expected', f'1 not finite: {c}',
  )


@pytest.mark.parametrize(
    'dtype, word', [(np.int32, 'I32'), (np.int64, 'int64')]
)
def test_integer_tensors_are_refused(broken, dtype, word):
  def spoil(tensors):
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].astype(dtype)
  rewrite(broken, spoil)
  fails(broken, word, 'expected')


@pytest.mark.parametrize('keep', [0, 5, 100, -1])
def test_truncated_file(broken, keep):
  path = broken / 'vae.safetensors'
  path.write_bytes(path.read_bytes()[:keep])
  fails(broken, 'vae.safetensors', 'damaged or truncated')


def test_one_flipped_bit_is_noticed(broken):
  path = broken / 'dit.safetensors'
  content = bytearray(path.read_bytes())
  content[-100] ^= 1
  path.write_bytes(content)
  fails(broken, 'dit.safetensors', 'SHA-256')


def model(**parts):
  """A change of some values of the model."""
  return dict(model=MODEL | {k: MODEL[k] | v for k, v in parts.items()})


def sampler(**values):
  return dict(sampler=sampler_values.DEFAULTS | values)


@pytest.mark.parametrize(
    'change, word',
    [
        (dict(format=2), 'format 2'),
        (dict(surplus=1), 'surplus'),
        (dict(model={}), 'variant'),
        (dict(model=dict(MODEL, vae=dict(MODEL['vae'], kind='x'))), "'x'"),
        (dict(model=dict(MODEL, dit=dict(MODEL['dit'], knob=1))), 'knob'),
        (dict(model=dict(MODEL, chunk={})), 'model'),
        (dict(sampler={'steps': 4}), 'timesteps'),
        (model(dit=dict(heads=0)), 'does not describe a network'),
        (model(dit=dict(depth=2.5)), 'does not describe a network'),
        (model(chunk=dict(height='128')), 'does not describe a network'),
        (model(chunk=dict(frames=33.5)), 'does not describe a network'),
        (model(audio=dict(mels=-4)), 'does not describe a network'),
        (model(audio=dict(mels='x')), 'does not describe a network'),
        (model(vae=dict(base_channels=0)), 'does not describe a network'),
        (model(chunk=dict(continuity_slots=0)), 'continuity_slots 0'),
        (model(chunk=dict(continuity_slots=9)), 'fewer than the'),
        (sampler(timesteps=None), 'timesteps None'),
        (sampler(timesteps=[250, 500]), 'expected descending'),
        (sampler(timesteps=[1001]), 'expected descending'),
        (sampler(shift='x'), "shift 'x'"),
        (sampler(shift=0), 'shift 0'),
    ],
)
def test_wrong_config(broken, change, word):
  path = broken / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  fails(broken, word)


def test_config_that_is_not_json(broken):
  (broken / 'config.json').write_text('{')
  fails(broken, 'config.json', 'not JSON')


def test_unknown_bundle_names_the_choices():
  with pytest.raises(FileNotFoundError, match='expected a bundle folder'):
    bundle.load('nowhere')


def test_save_refuses_parameters_of_another_size(params, tmp_path):
  wrong = dict(params, dit={'kernel': np.zeros(3)})
  with pytest.raises(ValueError, match='extra: kernel'):
    bundle.save(tmp_path / 'b', variant='micro', model=MODEL, params=wrong)
  assert not (tmp_path / 'b' / 'config.json').exists()


def test_old_bundles_read_without_what_came_later(broken):
  path = broken / 'config.json'
  config = json.loads(path.read_text())
  assert config['sampler'].pop('timestep_rounding') == 'float32'
  assert config['sampler'].pop('color_correction') == 0.0
  assert config['sampler'].pop('continuity_carry') == 'reencode'
  path.write_text(json.dumps(config))
  assert bundle.load(broken).config['sampler'] == sampler_values.DEFAULTS
  config['sampler']['timestep_rounding'] = 'float8'
  path.write_text(json.dumps(config))
  fails(broken, "'float8'", 'bfloat16')
  config['sampler'] |= dict(timestep_rounding='float32', color_correction=2)
  path.write_text(json.dumps(config))
  fails(broken, 'color_correction 2; expected 0 to 1')
  config['sampler'] |= dict(color_correction=0.0, continuity_carry='pixels')
  path.write_text(json.dumps(config))
  fails(broken, "continuity_carry 'pixels'", 'reencode', 'latent')


def test_bundles_that_say_nothing_of_the_carry_encode_again():
  for name in (*bundle.names(), 'random:micro'):
    found = bundle.open_bundle(name, ())
    assert found.config['sampler']['continuity_carry'] == 'reencode'


def test_save_refuses_values_that_are_not_finite(params, tmp_path):
  wrong = jax.tree.map(np.copy, params['vae'])
  wrong['decoder']['conv_in']['bias'][0] = np.inf
  with pytest.raises(ValueError, match='decoder/conv_in/bias is not finite'):
    bundle.save(tmp_path, variant='micro', model=MODEL, params={'vae': wrong})
  assert not list(tmp_path.iterdir())


def test_random_weights_are_finite_of_unit_gain_and_the_same_again():
  first, again = (
      bundle.load('random:micro', ('dit', 'teacher', 'vae')) for _ in range(2)
  )
  kernel = first.params['dit']['blocks']['ffn_out']['kernel']
  assert kernel.shape == (4, 512, 128) and kernel.dtype == np.float32
  assert abs(kernel.std() * 512**0.5 - 1) < 0.02
  assert not np.array_equal(kernel[0], kernel[1])
  chex.assert_trees_all_equal(first.params, again.params)
  teacher = first.params['teacher']['blocks']['ffn_out']['kernel']
  assert not np.array_equal(teacher, kernel)
  video = jax.jit(first.networks.decode_video)(
      first.params['vae'], np.ones((1, 1, 2, 2, 8), np.float32)
  )
  assert np.isfinite(video).all() and np.std(video) > 1e-3
  assert bundle.parts_of('random:micro') == ['vae', 'dit', 'teacher']


def test_random_weights_of_no_variant_name_the_choices():
  with pytest.raises(ValueError, match="variant 'huge': expected one of"):
    bundle.load('random:huge')


def test_the_origin_goes_from_bundle_to_bundle(params, tmp_path):
  origin = bundle.Origin(
      record={'kind': 'x', 'parts': {'dit': {'layout': 'y'}}},
      unused={'dit/old.bias': np.arange(3, dtype=ml_dtypes.bfloat16)},
  )
  for name in ('first', 'second'):
    bundle.save(
        tmp_path / name, variant='micro', model=MODEL, params=params,
        origin=origin,
    )
    origin = bundle.load(tmp_path / name).origin
    shutil.rmtree(tmp_path / name)  # A training lasts longer than its source.
  assert origin.record['parts'] == {'dit': {'layout': 'y'}}
  (key, kept), = origin.unused.items()
  assert key == 'dit/old.bias' and kept.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(kept, [0, 1, 2])


def test_unused_tensors_are_checked_too(params, tmp_path):
  origin = bundle.Origin(record={}, unused={'dit/a': np.ones(3, np.float32)})
  bundle.save(tmp_path, variant='micro', model=MODEL, params=params,
              origin=origin)
  path = tmp_path / 'unused.safetensors'
  path.write_bytes(path.read_bytes()[:-1] + b'\x00')
  fails(tmp_path, 'unused.safetensors', 'SHA-256')
  path.unlink()
  with pytest.raises(FileNotFoundError, match='unused.safetensors'):
    bundle.load(tmp_path)
