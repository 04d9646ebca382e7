"""Released folders become bundles; damaged ones are named in one line."""

import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import reader
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_vae
from tests import golden_file

PARTS = {'dit': 'dit.', 'vae': 'vae.', 'w2v': 'wav2vec.'}


def folder_of(path, weights, published):
  path.mkdir(parents=True)
  safetensors.numpy.save_file(
      {k: np.ascontiguousarray(v) for k, v in weights.items()},
      path / 'diffusion_pytorch_model.safetensors',
  )
  (path / 'config.json').write_text(json.dumps(published))


@pytest.fixture(name='lite')
def _lite(tmp_path):
  """A release like Model_Lite, small; the DiT in two shards."""
  golden = golden_file.load('chunk_loop_lite')
  source, config = tmp_path / 'release', golden.config
  dit = golden.weights('dit.') | {'text_embedding.0.bias': np.zeros(3)}
  folder_of(source / 'Model_Lite', dit, config['dit'][0])
  folder_of(source / 'VAE_LTX', golden.weights('vae.'), config['vae'])
  speech = golden.weights('wav2vec.') | {'lm_head.bias': np.zeros(3)}
  folder_of(source / 'wav2vec2-base-960h', speech, config['w2v'])
  model = source / 'Model_Lite'
  (model / 'diffusion_pytorch_model.safetensors').unlink()
  names, where = ['one.safetensors', 'two.safetensors'], {}
  for n, name in enumerate(names):
    shard = dict(list(dit.items())[n::2])
    where |= dict.fromkeys(shard, name)
    safetensors.numpy.save_file(
        {k: np.ascontiguousarray(v) for k, v in shard.items()}, model / name
    )
  index = model / 'diffusion_pytorch_model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': where}))
  return source


def convert(source, kind='flashhead-lite'):
  out = source.parent / 'bundle'
  code = cli.main(
      ['convert', f'--kind={kind}', f'--source={source}', f'--out={out}']
  )
  return code, out


def test_a_lite_release_becomes_a_bundle_that_loads(lite):
  code, out = convert(lite)
  assert code == 0
  found = bundle.load(out)
  weights = golden_file.load('chunk_loop_lite').weights('dit.')
  blocks = found.params['dit']['blocks']
  np.testing.assert_array_equal(
      blocks['ffn_in']['kernel'][1], weights['blocks.1.ffn.0.weight'].T
  )
  assert found.networks.chunk.latent_shape == (5, 16, 16, 12)
  assert sorted(p.name for p in out.parent.iterdir()) == ['bundle', 'release']
  assert convert(lite)[0] == 2  # Never over something.


def test_a_pro_release_becomes_a_bundle_that_loads(tmp_path):
  golden = golden_file.load('chunk_loop_pro')
  source, config = tmp_path / 'release', golden.config
  folder_of(source / 'Model_Pro', golden.weights('dit.'), config['dit'][0])
  folder_of(tmp_path / 'wav2vec2-base-960h', golden.weights('wav2vec.'),
            config['w2v'])
  (source / 'VAE_Wan').mkdir()
  safetensors.numpy.save_file(
      golden.weights('vae.'), source / 'VAE_Wan' / 'Wan2.1_VAE.safetensors'
  )
  sizes = source / 'VAE_Wan' / 'vae_config.json'
  sizes.write_text(json.dumps(config['vae']))
  code, out = convert(source, 'flashhead-pro')
  assert code == 0
  assert bundle.load(out).config['variant'] == 'pro'


def test_wan_text_to_video_becomes_a_start_for_training(tmp_path):
  golden, pro = (golden_file.load(n) for n in ('wan_dit', 'chunk_loop_pro'))
  source = tmp_path / 'wan'
  folder_of(source / 'transformer', golden.weights(), golden.config)
  sizes = pro.config['vae'] | dict(
      latents_mean=[0.5] * 16, latents_std=[2.0] * 16
  )
  folder_of(source / 'vae', {}, sizes)
  vae = configs.wan_vae_sizes(sizes)
  params = rules.convert(
      pro.weights('vae.'), wan_vae.original_table(vae), wan_vae.targets(vae)
  )
  safetensors.numpy.save_file(
      rules.export(params, wan_vae.diffusers_table(vae)),
      source / 'vae' / 'diffusion_pytorch_model.safetensors',
  )
  folder_of(source / 'wav2vec2-base-960h', pro.weights('wav2vec.'),
            pro.config['w2v'])
  code, out = convert(source, 'wan2.1-t2v-1.3b')
  assert code == 0
  found = bundle.load(out)
  assert (found.params['vae']['latent_mean'] == 0.5).all()
  kernel = found.params['dit']['patch_embedding']['kernel']
  kernel = kernel.reshape(4, 2, 16, -1)
  assert kernel[:, 0].any() and not kernel[:, 1].any()


def refused(source, capsys, kind='flashhead-lite'):
  code, out = convert(source, kind)
  assert code == 2 and not out.exists()
  assert not list(source.parent.glob('*.tmp'))
  text = capsys.readouterr().err
  assert text.strip().count('\n') == 0, text
  return text


def test_missing_and_extra_keys_are_all_listed(lite, capsys):
  path = lite / 'VAE_LTX' / 'diffusion_pytorch_model.safetensors'
  tensors = dict(reader.open_checkpoint(str(path)))
  tensors = {key: np.array(value) for key, value in tensors.items()}
  tensors['decoder.conv_in.bias'] = tensors.pop('decoder.conv_in.conv.bias')
  safetensors.numpy.save_file(tensors, path)
  text = refused(lite, capsys)
  assert 'no rule: decoder.conv_in.bias' in text
  assert 'not in the checkpoint: decoder/conv_in/bias' in text


def test_damaged_downloads_are_named(lite, capsys):
  model = lite / 'Model_Lite'
  whole = (model / 'two.safetensors').read_bytes()
  (model / 'two.safetensors').write_bytes(whole[:-5])
  assert 'two.safetensors: truncated' in refused(lite, capsys)
  (model / 'two.safetensors').write_text(
      'version https://git-lfs.github.com/spec/v1\n'
  )
  assert 'Git LFS pointer' in refused(lite, capsys)
  (model / 'two.safetensors').unlink()
  assert 'missing shards two.safetensors' in refused(lite, capsys)


def test_another_kind_is_named(lite, capsys):
  assert 'Model_Pro' in refused(lite, capsys, 'flashhead-pro')
  assert "kind 'lite': expected one of" in refused(lite, capsys, 'lite')
  shutil.rmtree(lite / 'wav2vec2-base-960h')
  assert '--audio' in refused(lite, capsys)


def test_a_pickle_needs_torch(tmp_path, monkeypatch):
  path = tmp_path / 'Wan2.1_VAE.pth'
  path.write_bytes(b'PK')
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r'needs PyTorch: pip install'):
    reader.open_checkpoint(str(path))


def test_types_that_hold_no_weights_are_refused(tmp_path):
  path = tmp_path / 'a.safetensors'
  header = b'{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
  path.write_bytes(len(header).to_bytes(8, 'little') + header + b'\0\0')
  with pytest.raises(ValueError, match='type F8_E4M3; expected F64, F32'):
    reader.open_checkpoint(str(path))
