"""Bad releases: one clear line, exit code 2, nothing half-written."""

import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest

from asymtalker_jax import tensor_file
from asymtalker_jax.convert import export
from asymtalker_jax.convert import reader
from tests.convert import small_release
from tests.convert.small_release import F32

POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'
DIT = f'Model_Lite/{export.WEIGHTS}'


@pytest.fixture(name='lite', scope='module')
def _lite(tmp_path_factory):
  return small_release.lite(tmp_path_factory.mktemp('x') / 'lite', dtype=F32)


@pytest.fixture(name='source')
def _source(lite, tmp_path):
  return shutil.copytree(lite, tmp_path / 'release')


def refused(source, capsys, *words, kind='flashhead-lite'):
  out = source.parent / 'bundle'
  code = small_release.run(
      'convert', f'--kind={kind}', f'--source={source}', f'--out={out}'
  )
  text = capsys.readouterr().err
  assert code == 2
  assert text.count('\n') == 1 and text.startswith('asymtalker convert: ')
  for word in words:
    assert word in text, text
  left = {p.name for p in source.parent.iterdir()} - {source.name}
  assert not left


def change(source, name, edit):
  """Rewrites a file of tensors."""
  path = source / name
  tensors = {
      k: np.array(v) for k, v in tensor_file.open_file(str(path)).items()
  }
  edit(tensors)
  tensor_file.write(path, tensors)


def test_a_folder_that_is_no_release(tmp_path, capsys):
  refused(tmp_path / 'nothing', capsys, 'nothing: no such folder')
  (tmp_path / 'empty').mkdir()
  refused(tmp_path / 'empty', capsys, 'no Model_Lite/config.json in it',
          'expected the folder SoulX-FlashHead-1_3B')


def test_a_folder_inside_the_release(source, capsys):
  inner = (source / 'Model_Lite').rename(source.parent / 'Model_Lite')
  shutil.rmtree(source)
  refused(inner, capsys, 'no Model_Lite/config.json')


def test_a_release_of_another_kind(source, capsys):
  for kind in ('flashhead-pro', 'wan2.1-t2v-1.3b'):
    refused(source, capsys, 'it looks like flashhead-lite', kind=kind)
  refused(source, capsys, "--kind=lite: expected one of", kind='lite')


@pytest.mark.parametrize('name, word', [
    ('VAE_LTX', 'VAE_LTX/config.json'),
    ('VAE_LTX/config.json', 'VAE_LTX/config.json'),
    (DIT, 'Model_Lite: no .safetensors file in it'),
    ('wav2vec2-base-960h', '--audio'),
    ('wav2vec2-base-960h/model.safetensors', 'no .safetensors file'),
])
def test_a_partial_download(source, capsys, name, word):
  path = source / name
  path.unlink() if path.is_file() else shutil.rmtree(path)
  refused(source, capsys, word)


@pytest.mark.parametrize('name', ['Model_Lite/config.json', DIT])
def test_a_git_lfs_pointer(source, capsys, name):
  (source / name).write_text(POINTER)
  refused(source, capsys, name, 'Git LFS pointer')


@pytest.mark.parametrize('keep', [0, 7, 100, -1])
def test_a_truncated_file(source, capsys, keep):
  path = source / DIT
  path.write_bytes(path.read_bytes()[:keep])
  refused(source, capsys, DIT, 'truncated')


@pytest.mark.parametrize('text, word', [
    ('{"dim": ', 'not JSON'),
    ('[]', 'expected a JSON object'),
    ('{}', 'config: no dim'),
    ('{"dim": "wide"}', 'config: no num_layers'),
])
def test_a_config_that_is_none(source, capsys, text, word):
  (source / 'Model_Lite' / 'config.json').write_text(text)
  refused(source, capsys, word)


@pytest.mark.parametrize('key, value', [
    ('dim', 'wide'), ('vae_stride', 8), ('patch_size', None), ('num_heads', 0),
    ('dim', -48), ('num_layers', 2.5),
])
def test_a_config_with_senseless_values(source, capsys, key, value):
  path = source / 'Model_Lite' / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
  refused(source, capsys, str(source))


@pytest.mark.parametrize('dtype', [np.float64, np.int64])
def test_weights_of_a_type_that_would_be_rounded(source, capsys, dtype):
  key = 'blocks.0.ffn.0.weight'
  change(source, DIT, lambda t: t.update({key: t[key].astype(dtype)}))
  refused(source, capsys, np.dtype(dtype).name, 'expected float32, float16')


def test_float8_weights(source, capsys):
  path = source / DIT
  path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F8_E5M2"', 1))
  refused(source, capsys, DIT)  # Longer now: damaged first of all.
  header = b'{"x":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[0,2]}}'
  path.write_bytes(len(header).to_bytes(8, 'little') + header + b'\0\0')
  refused(source, capsys, DIT, 'type F8_E5M2; expected F64, F32, F16, BF16')


def test_weights_that_are_not_finite(source, capsys):
  def spoil(tensors):
    tensors['head.head.bias'][3] = np.nan

  change(source, DIT, spoil)
  refused(source, capsys, 'head/linear/bias is not finite')


def sharded(source, edit):
  """The DiT in two shards with an index that `edit` has changed."""
  path = source / DIT
  tensors = dict(tensor_file.open_file(str(path)))
  where = {}
  for n, name in enumerate(['one.safetensors', 'two.safetensors']):
    shard = dict(list(tensors.items())[n::2])
    tensor_file.write(path.parent / name, shard)
    where |= dict.fromkeys(shard, name)
  path.unlink()
  edit(where)
  index = path.parent / 'diffusion_pytorch_model.safetensors.index.json'
  index.write_text(json.dumps({'weight_map': where}))


@pytest.mark.parametrize('edit, word', [
    (lambda w: w.clear(), 'no weight_map'),
    (lambda w: w.update(x=3), 'no weight_map of file names'),
    (lambda w: w.update(x='three.safetensors'), 'missing shards three'),
    (lambda w: w.update(x='one.safetensors'), 'not in the shards: x'),
    (lambda w: w.pop('head.head.bias'), 'in the shards only: head.head.bias'),
])
def test_an_index_that_does_not_fit_its_shards(source, capsys, edit, word):
  sharded(source, edit)
  refused(source, capsys, word)


class Hostile:
  """What a pickle that executes code looks like."""

  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return os.system, (f'touch {self.mark}',)


def read(path):
  with pytest.raises(ValueError) as error:
    reader.open_checkpoint(str(path))
  return str(error.value)


def test_pickles_run_no_code(tmp_path):
  torch = pytest.importorskip('torch')
  mark, path = tmp_path / 'ran', tmp_path / 'Wan2.1_VAE.pth'
  state = {'weight': torch.zeros(2), 'x': Hostile(mark)}
  for new in (True, False):
    torch.save(state, path, _use_new_zipfile_serialization=new)
    assert 'not a plain PyTorch state dict' in read(path)
  path.write_bytes(pickle.dumps(Hostile(mark)))
  assert 'not a plain PyTorch state dict' in read(path)
  assert not mark.exists()


def test_pickles_that_are_damaged_or_hold_other_things(tmp_path):
  torch = pytest.importorskip('torch')
  path = tmp_path / 'Wan2.1_VAE.pth'
  path.write_text(POINTER)
  assert 'Git LFS pointer' in read(path)
  torch.save({'weight': torch.zeros(200)}, path)
  whole = path.read_bytes()
  for keep in (0, 1, 40, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:keep])
    assert '\n' not in read(path)
  for state in ([torch.zeros(2)], {'x': 3}, {1: torch.zeros(2)}):
    torch.save(state, path)
    assert 'expected a dict of tensors' in read(path)
  torch.save({'x': torch.zeros(2).to(torch.float8_e4m3fn)}, path)
  assert 'float8_e4m3fn' in read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('data.pkl', b'\x80\x02.')
  assert '\n' not in read(path)


def test_half_precision_pickles_keep_their_type(tmp_path):
  torch = pytest.importorskip('torch')
  path, values = tmp_path / 'x.pth', torch.arange(6).reshape(2, 3) / 3
  torch.save({'b': values.bfloat16().T, 'h': values.half()}, path)
  found = reader.open_checkpoint(str(path))
  assert found['b'].dtype == small_release.BF16 and found['b'].shape == (3, 2)
  np.testing.assert_array_equal(
      np.asarray(found['b']).astype(F32), values.bfloat16().T.float().numpy()
  )
  assert np.asarray(found['h']).dtype == np.float16


def test_a_folder_with_the_old_pickle_only(tmp_path):
  torch = pytest.importorskip('torch')
  torch.save({'w': torch.ones(2)}, tmp_path / 'pytorch_model.bin')
  assert list(reader.open_checkpoint(str(tmp_path))) == ['w']
