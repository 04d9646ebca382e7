"""`asymtalker parity`: every golden file passes, and a wrong one does not."""

import json
import pathlib

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from asymtalker_jax.cli import main as cli
from asymtalker_jax.parity import check
from asymtalker_jax.parity import golden as golden_lib

FOLDER = pathlib.Path(__file__).parent / 'golden'
SHARED = pathlib.Path(__file__).parents[2] / 'shared' / 'golden'


def files():
  """Our copies, and what the shared folder has beyond them."""
  own = sorted(FOLDER.glob('*.safetensors'))
  known = {path.read_bytes() for path in own}
  shared = sorted(SHARED.glob('*.safetensors'))
  own += [path for path in shared if path.read_bytes() not in known]
  return own


def read(name):
  with safetensors.safe_open(FOLDER / f'{name}.safetensors', 'np') as file:
    tensors = {k: file.get_tensor(k) for k in file.keys()}
    return tensors, json.loads(file.metadata()['golden'])


def write(path, tensors, meta):
  metadata = {'golden': json.dumps(meta)}
  safetensors.numpy.save_file(tensors, path, metadata=metadata)
  return str(path)


@pytest.mark.parametrize('path', files(), ids=lambda path: path.stem)
def test_every_output_is_within_its_tolerance(path):
  report = check.run(path)
  assert report.passed, [row for row in report.rows if not row.passed]
  assert {row.output for row in report.rows} == set(
      golden_lib.load(path).outputs
  )


def test_a_perturbed_weight_fails_with_exit_code_1(tmp_path, capsys):
  tensors, meta = read('flashhead_dit_lite')
  key = 'weights.blocks.1.ffn.2.bias'
  tensors[key] = tensors[key] + np.float32(0.01)
  path = write(tmp_path / 'a.safetensors', tensors, meta)
  out = tmp_path / 'report.json'
  assert cli.main(['parity', f'--golden={path}', f'--json={out}']) == 1
  lines = capsys.readouterr().out.splitlines()
  verdicts = {line.split()[0]: line.split()[-1] for line in lines[2:-1]}
  assert verdicts['output'] == 'NO' and verdicts['block0'] == 'yes'
  report = json.loads(out.read_text())
  assert not report['passed'] and report['kind'] == 'flashhead_dit'
  assert [r['output'] for r in report['rows'] if not r['passed']] == ['output']


def test_a_file_that_passes_gives_exit_code_0_whatever_its_name(tmp_path):
  path = write(tmp_path / 'b.safetensors', *read('frechet'))
  assert cli.main(['parity', f'--golden={path}']) == 0
  assert not list(tmp_path.glob('*.tmp'))


def test_an_output_that_is_not_computed_fails(tmp_path, capsys):
  tensors, meta = read('frechet')
  tensors['out.surprise'] = np.ones(1, np.float32)
  path = write(tmp_path / 'c.safetensors', tensors, meta)
  assert cli.main(['parity', f'--golden={path}']) == 1
  assert 'not computed' in capsys.readouterr().out


def one_line(path, capsys):
  assert cli.main(['parity', f'--golden={path}']) == 2
  text = capsys.readouterr().err
  assert text.count('\n') == 1
  return text


def test_an_unknown_kind_is_refused_in_one_line(tmp_path, capsys):
  tensors, meta = read('frechet')
  meta['reference'] = 'SyncNet'
  path = write(tmp_path / 'd.safetensors', tensors, meta)
  text = one_line(path, capsys)
  assert "kind not supported: reference 'SyncNet'; expected one of" in text
  assert 'flashhead_dit' in text


def test_files_that_are_no_golden_files_are_refused(tmp_path, capsys):
  path = tmp_path / 'e.safetensors'
  assert 'e.safetensors' in one_line(path, capsys)
  path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
  assert 'Git LFS pointer' in one_line(path, capsys)
  path.write_bytes((FOLDER / 'frechet.safetensors').read_bytes()[:9000])
  assert 'not a whole safetensors file' in one_line(path, capsys)
  safetensors.numpy.save_file({'a': np.ones(1)}, path)
  assert "expected metadata 'golden'" in one_line(path, capsys)


def test_a_missing_weight_is_named(tmp_path, capsys):
  tensors, meta = read('flashhead_dit_lite')
  del tensors['weights.head.head.bias']
  path = write(tmp_path / 'f.safetensors', tensors, meta)
  assert 'head/linear/bias' in one_line(path, capsys)


def test_thinned_outputs_are_recognised():
  value = np.arange(24).reshape(2, 12)
  named = golden_lib.as_stored(value, (2, 3), 'stored [..., ::5]')
  np.testing.assert_array_equal(named, value[:, ::5])
  even = golden_lib.as_stored(value, (2, 3), '')
  np.testing.assert_array_equal(even, value[:, ::4])
  batched = golden_lib.as_stored(value[None], (2, 12), '')
  np.testing.assert_array_equal(batched, value)
  with pytest.raises(ValueError, match=r'\(2, 12\) where \(3, 13\)'):
    golden_lib.as_stored(value, (3, 13), '')
