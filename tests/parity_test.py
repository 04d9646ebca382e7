"""`asymtalker parity`: every golden file passes, and a wrong one does not."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from asymtalker_jax.cli import main as cli
from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.models import dit
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
  assert [p.name for p in tmp_path.iterdir()] == ['b.safetensors']


def test_a_report_without_a_folder_is_refused_before_the_work(capsys):
  path = FOLDER / 'frechet.safetensors'
  assert cli.main(['parity', f'--golden={path}', '--json=missing/x.json']) == 2
  found = capsys.readouterr()
  assert 'there is no folder missing' in found.err and not found.out


@pytest.mark.parametrize('name, limit', [
    ('flashhead_dit_lite', 2 * 2**-8 * 32**0.5),
    ('wav2vec2_group', 2 * 2**-8 * 28**0.5),
])
def test_bfloat16_stays_within_what_its_rounding_explains(
    name, limit, tmp_path, capsys
):
  path, out = FOLDER / f'{name}.safetensors', tmp_path / 'report.json'
  words = f'--golden={path}', '--dtype=bfloat16', f'--json={out}'
  assert cli.main(['parity', *words]) == 0
  report = json.loads(out.read_text())
  assert report['dtype'] == 'bfloat16' and 'bfloat16' in capsys.readouterr().out
  for row in report['rows']:
    assert row['tolerance'] == pytest.approx(limit)
    assert row['relative_error'] <= limit < 0.05, row
  # It did run in bfloat16: float32 is a thousand times closer.
  assert max(row['relative_error'] for row in report['rows']) > 2e-3


def test_the_bound_of_bfloat16_grows_with_the_rounds_of_a_chunk_loop():
  golden = golden_lib.load(FOLDER / 'chunk_loop_lite.safetensors')
  limit = lambda output: check.bfloat16_limit(golden, output)
  once = 2 * 2**-8 * 102**0.5  # Matrices in the file; it has 4 steps.
  assert limit('audio.chunk2') == pytest.approx(once)
  assert limit('cc0.chunk0.video') == pytest.approx(once * 4**0.5)
  assert limit('cc1.chunk2.video') == pytest.approx(once * 12**0.5)


def test_other_sizes_of_the_same_schema_are_computed(tmp_path):
  """Widths, heads, depth, patch, strides and H != W that no file has."""
  width, channels, frames, stride = 36, 6, 13, 6
  t, height, width_latent, layers, audio, tokens = 3, 4, 10, 2, 5, 3
  published = dict(
      dim=width, num_layers=1, num_heads=3, ffn_dim=20, out_dim=channels,
      in_dim=2 * channels, patch_size=[1, 2, 2], vae_stride=[stride, 16, 16],
      freq_dim=18, eps=1e-5,
  )
  config = dit.DiTConfig(
      width=width, depth=1, heads=3, ffn=20, latent_channels=channels,
      patch=(1, 2, 2), frequency_dim=18, temporal_stride=stride,
      audio_layers=layers, audio_channels=audio, audio_hidden=7,
      audio_tokens=tokens, eps=1e-5,
  )
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  params = jax.tree.map(lambda s: draw(*s.shape), wan_dit.targets(config))
  weights = rules.export(params, flashhead.table(config))
  latents = (1, channels, t, height, width_latent)
  count = t * height * width_latent // 4
  outputs = {
      'time_sinusoid': (1, 18), 'time_embedding': (1, width),
      'time_projection': (1, 6 * width), 'block0_in': (1, count, width),
      'audio_group': (1, t - 1, 5 + stride - 1, layers, audio),
      'audio_proj': (1, t, tokens, width), 'block0': (1, count, width),
      'output': latents,
  }
  path = write(tmp_path / 'g.safetensors', {
      'in.x': draw(*latents), 'in.y': draw(*latents),
      'in.context': draw(1, frames, 5, layers, audio),
      'in.timestep': np.float32([411.0]),
      **{f'weights.{k}': np.ascontiguousarray(v) for k, v in weights.items()},
      **{f'out.{k}': draw(*shape) for k, shape in outputs.items()},
  }, dict(reference='WanModelAudioProject', config=published))
  rows = check.run(path).rows
  assert {row.output: row.shape for row in rows} == outputs
  assert not any(row.note for row in rows), rows
  assert all(row.max_abs_error > 1e-3 for row in rows)  # Noise was recorded.


def test_a_file_without_a_network_has_no_bfloat16(capsys):
  path = FOLDER / 'frechet.safetensors'
  assert cli.main(['parity', f'--golden={path}', '--dtype=bfloat16']) == 2
  text = capsys.readouterr().err
  assert "'bfloat16' for a file of kind frechet: expected float32" in text


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
