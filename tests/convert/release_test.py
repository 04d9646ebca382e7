"""Released folders become bundles."""

import io
import json
import sys

from absl import logging
import numpy as np
import pytest
import safetensors.numpy

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.convert import configs
from asymtalker_jax.convert import reader
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
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
  dit = golden.weights('dit.') | {
      'text_embedding.0.bias': np.arange(3, dtype=np.float32)
  }
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
  sampler = found.config['sampler']
  assert sampler['timestep_rounding'] == 'bfloat16'
  assert sampler['color_correction'] == 1.0
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


def test_wan_text_to_video_becomes_a_start_for_training(tmp_path, monkeypatch):
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
  shown = io.StringIO()
  handler = logging.get_absl_handler().python_handler
  monkeypatch.setattr(handler, 'stream', shown)
  code, out = convert(source, 'wan2.1-t2v-1.3b')
  assert code == 0
  for word in (
      'new: patch_embedding/kernel: the half that reads the reference, zeros',
      'new: audio_projection: all of it; kernels normal with variance 1 /',
      'kept: blocks/cross_attention of the text',
      'dropped: text_embedding',
  ):
    assert word in shown.getvalue()
  found = bundle.load(out)
  assert (found.params['vae']['latent_mean'] == 0.5).all()
  kernel = found.params['dit']['patch_embedding']['kernel']
  kernel = kernel.reshape(4, 2, 16, -1)
  assert kernel[:, 0].any() and not kernel[:, 1].any()
  fresh = found.params['dit']['audio_projection']
  for layer in ('first', 'later', 'hidden', 'tokens'):  # As the log says.
    kernel, bias = fresh[layer]['kernel'], fresh[layer]['bias']
    assert kernel.std() * len(kernel) ** 0.5 == pytest.approx(1, abs=0.1)
    assert 0.01 < bias.std() < 0.03
  assert (fresh['norm']['scale'] == 1).all()


def test_wan_text_to_video_in_its_original_layout(tmp_path):
  golden, pro = (golden_file.load(n) for n in ('wan_dit', 'chunk_loop_pro'))
  text = configs.wan_dit_diffusers(golden.config)
  params = rules.convert(
      golden.weights(), wan_dit.diffusers_table(text), wan_dit.targets(text)
  )
  weights = rules.export(params, wan_dit.original_table(text))
  assert 'blocks.0.self_attn.q.weight' in weights
  source = tmp_path / 'wan'
  folder_of(source, weights, dict(
      _class_name='WanModel', dim=text.width, eps=1e-6, ffn_dim=text.ffn,
      freq_dim=text.frequency_dim, in_dim=16, model_type='t2v',
      num_heads=text.heads, num_layers=text.depth, out_dim=16, text_len=512,
      text_dim=text.text_dim,
  ))
  torch = pytest.importorskip('torch', reason='reads the .pth')
  torch.save({k: torch.from_numpy(np.array(v))
              for k, v in pro.weights('vae.').items()},
             source / 'Wan2.1_VAE.pth')
  (source / 'vae_config.json').write_text(json.dumps(pro.config['vae']))
  folder_of(source / 'wav2vec2-base-960h', pro.weights('wav2vec.'),
            pro.config['w2v'])
  code, out = convert(source, 'wan2.1-t2v-1.3b')
  assert code == 0
  found = bundle.load(out)
  np.testing.assert_array_equal(
      found.params['dit']['blocks']['ffn_in']['kernel'],
      params['blocks']['ffn_in']['kernel'],
  )
  assert found.config['sampler']['timestep_rounding'] == 'float32'
  assert set(found.origin.record['parts']) == {'vae', 'audio'}


def test_missing_and_extra_keys_are_all_listed(lite, capsys):
  path = lite / 'VAE_LTX' / 'diffusion_pytorch_model.safetensors'
  tensors = dict(reader.open_checkpoint(str(path)))
  tensors = {key: np.array(value) for key, value in tensors.items()}
  tensors['decoder.conv_in.bias'] = tensors.pop('decoder.conv_in.conv.bias')
  safetensors.numpy.save_file(tensors, path)
  code, out = convert(lite)
  assert code == 2 and not out.exists()
  text = capsys.readouterr().err
  assert text.strip().count('\n') == 0, text
  assert 'no rule: decoder.conv_in.bias' in text
  assert 'not in the checkpoint: decoder/conv_in/bias' in text


def test_a_pickle_needs_torch(tmp_path, monkeypatch):
  path = tmp_path / 'Wan2.1_VAE.pth'
  path.write_bytes(b'PK')
  monkeypatch.setitem(sys.modules, 'torch', None)
  with pytest.raises(ValueError, match=r'needs PyTorch: pip install'):
    reader.open_checkpoint(str(path))
