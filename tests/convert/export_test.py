"""What was converted goes back bit for bit; what was trained here fits too."""

import ast
import json
import pathlib
import sys

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import bundle
from asymtalker_jax import sampler_values
from asymtalker_jax import tensor_file
from asymtalker_jax.convert import export
from asymtalker_jax.convert import ltx_vae
from asymtalker_jax.convert import reader
from asymtalker_jax.convert import wan_vae
from asymtalker_jax.models import variants
from tests import golden_file
from tests.convert.small_release import BF16, F16, F32, UNUSED
from tests.convert.small_release import convert, lite, pro, run

KEYS = pathlib.Path(golden_file.FOLDER, 'keys')
WEIGHTS = export.WEIGHTS


def export_to(source, out, kind='flashhead', *words):
  return run('export', f'--bundle={source}', f'--out={out}',
             f'--format={kind}', *words)


def same_tensors(a, b):
  a, b = (reader.open_checkpoint(str(path)) for path in (a, b))
  assert a.keys() == b.keys()
  for key in a:
    x, y = np.asarray(a[key]), np.asarray(b[key])
    assert (x.dtype, x.shape) == (y.dtype, y.shape), key
    assert x.tobytes() == y.tobytes(), key


def same_json(a, b):
  assert json.loads(a.read_text()) == json.loads(b.read_text())


@pytest.mark.parametrize('dtypes', [
    dict(dtype=F32),
    dict(dtype=BF16),
    dict(dtype=BF16, modulation=F32, bias=F16),
], ids=['float32', 'bfloat16', 'mixed'])
def test_a_lite_release_comes_back_bit_for_bit(tmp_path, dtypes):
  source = lite(tmp_path / 'source', **dtypes)
  out = tmp_path / 'again'
  found = convert(source)
  assert not export_to(found, out)
  files = sorted(p.relative_to(source) for p in source.rglob('*.*'))
  assert files == sorted(p.relative_to(out) for p in out.rglob('*.*'))
  for file in files:
    same = same_json if file.suffix == '.json' else same_tensors
    same(source / file, out / file)


def test_a_bundle_of_a_converted_bundle_keeps_its_origin(tmp_path):
  source = lite(tmp_path / 'source', dtype=BF16)
  smaller, out = tmp_path / 'smaller', tmp_path / 'again'
  assert not export_to(convert(source), smaller, 'bundle', '--dtype=float32')
  assert bundle.load(smaller).config['sampler'] == sampler_values.DEFAULTS | {
      'timestep_rounding': 'bfloat16', 'color_correction': 1.0
  }
  assert not export_to(smaller, out)
  same_tensors(source / 'Model_Lite' / WEIGHTS, out / 'Model_Lite' / WEIGHTS)


def test_a_type_that_is_asked_for_holds_for_all_weights(tmp_path):
  found = convert(lite(tmp_path / 'source', dtype=BF16))
  assert not export_to(found, tmp_path / 'again', 'flashhead',
                       '--dtype=float16')
  weights = reader.open_checkpoint(str(tmp_path / 'again' / 'Model_Lite'))
  assert {t.dtype for k, t in weights.items() if k not in UNUSED} == {
      np.dtype(F16)
  }


def test_a_pro_release_comes_back_bit_for_bit(tmp_path):
  torch = pytest.importorskip('torch', reason='writes the .pth')
  source = pro(tmp_path / 'source', torch)
  found, out = convert(source, 'flashhead-pro'), tmp_path / 'again'
  assert not export_to(found, out)
  for name in ('Model_Pro', 'VAE_Wan/Wan2.1_VAE.pth', 'wav2vec2-base-960h'):
    same_tensors(source / name, out / name)
  assert not export_to(found, tmp_path / 'vae', 'diffusers-vae')
  published = json.loads((tmp_path / 'vae' / 'config.json').read_text())
  assert published['latents_mean'] == [
      float(F32(x)) for x in wan_vae.LATENT_MEAN
  ]
  weights = reader.open_checkpoint(str(tmp_path / 'vae'))
  assert weights['encoder.conv_in.weight'].dtype == BF16


def test_without_torch_the_pth_is_refused_and_nothing_is_left(
    tmp_path, monkeypatch, capsys
):
  save_bundle(tmp_path / 'bundle', 'pro')
  monkeypatch.setitem(sys.modules, 'torch', None)
  assert export_to(tmp_path / 'bundle', tmp_path / 'again') == 2
  text = capsys.readouterr().err
  assert "pip install -e '.[convert]'" in text
  assert text.count('\n') == 1
  assert [p.name for p in tmp_path.iterdir()] == ['bundle']


def test_the_vae_of_a_release_in_diffusers_layout(tmp_path):
  golden = golden_file.load('ltx_vae_diffusers')
  found = convert(lite(tmp_path / 'source', dtype=F32))
  assert not export_to(found, tmp_path / 'vae', 'diffusers-vae')
  config = ltx_vae.config_of(
      json.loads((tmp_path / 'vae' / 'config.json').read_text())
  )
  assert config == ltx_vae.config_of(golden_file.load(
      'chunk_loop_lite').config['vae'])
  weights = reader.open_checkpoint(str(tmp_path / 'vae'))
  assert 'latents_mean' in golden.weights() and 'latents_mean' in weights


def small(kind):
  """Values of a network small enough to write, and its random parameters."""
  values = variants.values_of(kind)
  values['dit'].update(width=24, depth=2, heads=2, ffn=32, audio_hidden=8,
                       audio_tokens=2)
  values['audio'].update(width=16, depth=2, heads=2, ffn=32,
                         conv_channels=[8] * 7, position_kernel=16,
                         position_groups=4)
  if kind == 'lite':
    values['vae'].update(encoder_base_channels=4, decoder_base_channels=4)
  else:
    values['vae'].update(base_channels=4)
  shapes = jax.eval_shape(variants.build(values).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(F32), shapes)
  if kind == 'pro':
    params['vae'] |= {'latent_mean': F32(wan_vae.LATENT_MEAN),
                      'latent_std': F32(wan_vae.LATENT_STD)}
  return values, params


def save_bundle(folder, kind):
  values, params = small(kind)
  params['teacher'] = jax.tree.map(np.negative, params['dit'])
  bundle.save(folder, variant=kind, model=values, params=params)
  return params


def test_a_student_trained_here_goes_to_flashhead_and_back(tmp_path):
  params = save_bundle(tmp_path / 'bundle', 'lite')
  out = tmp_path / 'flashhead'
  assert not export_to(tmp_path / 'bundle', out)
  (tmp_path / 'bundle').rename(tmp_path / 'trained')
  assert sorted(p.name for p in out.iterdir()) == [
      'Model_Lite', 'VAE_LTX', 'wav2vec2-base-960h'
  ]
  again = bundle.load(convert(out))
  for part in ('vae', 'dit', 'audio'):
    chex.assert_trees_all_equal(again.params[part], params[part])
  with safetensors.safe_open(out / 'Model_Lite' / WEIGHTS, 'np') as file:
    assert file.metadata() == {'format': 'pt'}
    assert not file.get_tensor('text_embedding.0.weight').any()


def listed(name):
  lines = (KEYS / f'{name}.txt').read_text().splitlines()
  pairs = (line.split('\t') for line in lines if line and line[0] != '#')
  return {key: tuple(ast.literal_eval(shape)) for key, shape in pairs}


def test_full_size_has_the_keys_and_shapes_of_the_releases():
  shapes_of = lambda found: {k: t.shape for k, t in found.items()}
  of_pro, of_lite = (
      export.files(abstract(k), 'flashhead') for k in ('pro', 'lite')
  )
  for found, name, keys in (
      (of_pro, f'Model_Pro/{WEIGHTS}', 'flashhead_pro_dit'),
      (of_lite, f'Model_Lite/{WEIGHTS}', 'flashhead_lite_dit'),
      (of_pro, 'VAE_Wan/Wan2.1_VAE.pth', 'wan2.1_vae_original'),
      (of_lite, f'VAE_LTX/{WEIGHTS}', 'ltx_0.9.0_vae_diffusers'),
      (export.files(abstract('pro'), 'diffusers-vae'), WEIGHTS,
       'wan2.1_vae_diffusers'),
  ):
    assert shapes_of(found[name]) == listed(keys), name
  assert len(of_lite['wav2vec2-base-960h/model.safetensors']) == len(
      listed('wav2vec2_base_960h')
  ) - 1  # masked_spec_embed, of the training objective.
  # The released files, from their sizes: Model_Lite/config.json has 357
  # bytes with its last line break, VAE_LTX/config.json 501 without.
  text = lambda name: json.dumps(of_lite[name], indent=2, sort_keys=True)
  assert len(text('Model_Lite/config.json')) == 356
  assert len(text('VAE_LTX/config.json')) == 501


def abstract(kind):
  """A bundle of full size without values."""
  values = variants.values_of(kind)
  networks = variants.build(values)
  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  empty = lambda s: tensor_file.Tensor(s.shape, np.dtype(F32), None)
  params = jax.tree.map(empty, shapes)
  if kind == 'pro':
    params['vae'] |= {'latent_mean': F32(wan_vae.LATENT_MEAN),
                      'latent_std': F32(wan_vae.LATENT_STD)}
  return bundle.Bundle(name=kind, config={}, networks=networks, params=params)


@pytest.mark.parametrize('change, word', [
    (dict(reference_encoding='static'), 'reference_encoding'),
    (dict(audio=dict(kind='log_mel', mels=8, steps=4)), 'log_mel'),
])
def test_networks_that_the_original_code_has_not_are_named(
    tmp_path, capsys, change, word
):
  values, _ = small('lite')
  values |= change
  shapes = jax.eval_shape(variants.build(values).init, jax.random.key(0))
  params = jax.tree.map(lambda s: np.zeros(s.shape, F32), shapes)
  bundle.save(tmp_path / 'b', variant='x', model=values, params=params)
  assert export_to(tmp_path / 'b', tmp_path / 'out') == 2
  text = capsys.readouterr().err
  assert word in text and text.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_the_bundled_vae_is_not_of_the_published_kind(tmp_path, capsys):
  assert export_to('tiny', tmp_path / 'out', 'diffusers-vae') == 2
  assert 'patch_size 4' in capsys.readouterr().err
