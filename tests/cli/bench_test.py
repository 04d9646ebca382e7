"""`asymtalker bench` with a small random bundle."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.evals import bench
from asymtalker_jax.models import variants

MODEL = variants.values_of('micro')
MODEL['chunk'].update(frames=17, height=32, width=32)
MODEL['vae'].update(base_channels=8, multipliers=(1, 1, 1))
MODEL['dit'].update(width=32, depth=3, heads=2, ffn=32, audio_hidden=8)
NEEDS_REFERENCES = pytest.mark.skipif(
    not all(map(
        importlib.util.find_spec, ('torch', 'diffusers', 'transformers')
    )),
    reason='needs the extra [parity]',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('bench') / 'bundle'
  shapes = jax.eval_shape(variants.build(MODEL).init, jax.random.key(0))
  params = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
  bundle.save(path, variant='micro', model=MODEL, params=params)
  return path


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setattr(bench, 'BUDGET_S', 0.0)
  monkeypatch.setattr(bench, '_MATMUL', 64)


def test_every_part_is_timed_and_counted(folder, tmp_path, capsys):
  out = tmp_path / 'bench.json'
  assert cli.main(['bench', f'--bundle={folder}', f'--json={out}']) == 0
  found = json.loads(out.read_text())
  assert list(found['parts']) == list(bench.PARTS)
  assert found['frames'] == 17 and found['latents'] == [5, 4, 4, 8]
  for row in found['parts'].values():
    assert 0 < row['min_s'] <= row['median_s'] and row['runs'] == 3
    rate = row['flops'] / row['median_s']
    assert row['flops_per_s'] == pytest.approx(rate)
    share = rate / found['peak']['flops']
    assert row['share_of_peak'] == pytest.approx(share)
    assert row['xla_bytes'] > 0
  steps = 4  # Of the sampler; a chunk also decodes and encodes.
  parts = found['parts']
  assert parts['chunk']['flops'] > (
      steps * parts['dit']['flops'] + parts['vae_decode']['flops']
  )
  assert parts['dit']['xla_flops'] > parts['dit']['flops'] > 0
  chunk = parts['chunk']
  assert chunk['frames_per_s'] == pytest.approx(12 / chunk['median_s'])
  lines = capsys.readouterr().out.splitlines()
  assert [line.split()[0] for line in lines[2:]] == list(bench.PARTS)


def test_a_chunk_is_carried_as_the_bundle_says(folder, tmp_path):
  loaded = bundle.load(folder)
  bundle.save(tmp_path / 'latent', variant='micro', model=MODEL,
              params=loaded.params, sampler={'continuity_carry': 'latent'})
  flops = [
      bench.measure(bundle.load(path), ['chunk'])['parts']['chunk']['flops']
      for path in (folder, tmp_path / 'latent')
  ]
  assert flops[1] < flops[0], 'nothing is encoded where latents are carried'


def test_another_size(folder, tmp_path):
  out = tmp_path / 'bench.json'
  assert cli.main([
      'bench', f'--bundle={folder}', '--parts=dit', '--size=64',
      f'--json={out}',
  ]) == 0
  assert json.loads(out.read_text())['latents'] == [5, 8, 8, 8]


@pytest.mark.parametrize(
    'word, text',
    [
        ('--parts=dit,vea', "['vea']: expected some of"),
        ('--parts=', 'expected some of'),
        ('--size=20', 'size 20: expected a multiple of 16'),
        ('--bundle=nothing', 'expected a bundle folder'),
        ('--against=jax', 'against'),
        ('--json=missing/x.json', 'there is no folder'),
    ],
)
def test_bad_flags_are_one_line(folder, capsys, word, text):
  assert cli.main(['bench', f'--bundle={folder}', word]) == 2
  line = capsys.readouterr().err
  assert line.count('\n') == 1 and text in line


def test_known_devices_have_their_data_sheet(monkeypatch):
  class Device:
    device_kind = 'NVIDIA H200'
  peak = bench.peak_of(Device())
  assert peak.flops == 989e12 and peak.bytes == 4.8e12
  assert 'data sheet' in peak.source


def test_runs_take_turns():
  order = []
  times = bench.time_runs(lambda: order.append('a'), lambda: order.append('b'))
  assert order == ['a', 'b'] * 4
  assert [len(t) for t in times] == [3, 3]


@NEEDS_REFERENCES
def test_the_reference_gives_the_same_numbers(tmp_path):
  from asymtalker_jax.parity import beside_torch  # pylint: disable=g-import-not-at-top

  values = variants.values_of('micro')
  values['chunk'].update(
      frames=5, height=32, width=32, latent_channels=16, continuity_slots=1
  )
  values['vae'].update(
      patch_size=1, base_channels=8, multipliers=(1, 2, 2, 2),
      strides=((2, 1), (2, 2), (2, 2)), res_blocks=1, latent_channels=16,
  )
  values['dit'].update(width=48, depth=2, heads=2, ffn=32, audio_hidden=8)
  values['audio'] = dict(
      kind='wav2vec2', width=32, depth=2, heads=2, ffn=64,
      conv_channels=[16] * 7, position_kernel=16, position_groups=4,
  )
  found = beside_torch.compare(variants.build(values), beside_torch.PARTS)
  assert list(found) == list(beside_torch.PARTS)
  for name, row in found.items():
    assert row['relative_error'] < 1e-4, (name, row)
    assert row['ratio'] == row['median_s'] / row['torch_median_s']


@NEEDS_REFERENCES
def test_sizes_without_a_reference_say_why(folder, tmp_path):
  out = tmp_path / 'bench.json'
  assert cli.main([
      'bench', f'--bundle={folder}', '--parts=vae_decode', '--against=torch',
      f'--json={out}',
  ]) == 0
  found = json.loads(out.read_text())['torch']
  assert 'patch_size 4' in found['vae_decode']['reason']


@pytest.mark.parametrize('package', ['torch', 'diffusers'])
def test_a_missing_reference_says_how_to_install_it(
    folder, monkeypatch, capsys, package
):
  monkeypatch.setitem(sys.modules, package, None)
  if package == 'diffusers':
    pytest.importorskip('torch')
  args = ['bench', f'--bundle={folder}', '--parts=vae_decode']
  assert cli.main([*args, '--against=torch']) == 2
  text = capsys.readouterr().err
  assert package in text and "pip install -e '.[parity]'" in text
  assert text.count('\n') == 1
