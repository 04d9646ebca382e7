"""`asymtalker generate` with a small random bundle: the file and the errors."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from PIL import Image
import pytest
import soundfile

from asymtalker_jax import bundle
from asymtalker_jax.cli import main as cli
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import video
from asymtalker_jax.models import variants
from tests import shared_media

ROOT = pathlib.Path(__file__).parents[2]
MODEL = variants.values_of('micro')
MODEL['chunk'].update(frames=17, height=32, width=32)
MODEL['vae'].update(base_channels=8, multipliers=(1, 1, 1))
MODEL['dit'].update(width=32, depth=1, heads=2, ffn=32, audio_hidden=8)
SECONDS = 1.75  # round(43.75) = 44 frames, 4 chunks of 12
KEYS = {
    'frames', 'fps', 'audio_seconds', 'chunks', 'wall_s', 'compile_s',
    'frames_per_s', 'first_frame_s', 'peak_rss_mb', 'bundle', 'seed',
    'versions', 'identities',
}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  """A folder with a bundle, a portrait and speech."""
  folder = tmp_path_factory.mktemp('inputs')
  shapes = jax.eval_shape(variants.build(MODEL).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda s: rng.normal(0, 0.1, s.shape).astype(np.float32), shapes
  )
  bundle.save(
      folder / 'bundle', variant='micro', model=MODEL, params=params
  )
  picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
  Image.fromarray(picture).save(folder / 'face.png')
  time_s = np.arange(round(44100 * SECONDS)) / 44100
  wave = 0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)
  soundfile.write(folder / 'speech.wav', np.stack([wave, wave], 1), 44100)
  return folder


def words(inputs, video_path, **changes):
  values = dict(
      bundle=inputs / 'bundle', image=inputs / 'face.png',
      audio=inputs / 'speech.wav', output=video_path,
  )
  return ['generate'] + [f'--{k}={v}' for k, v in (values | changes).items()]


def test_a_video_a_report_and_a_contact_sheet(inputs, tmp_path):
  output, report = tmp_path / 'x.mp4', tmp_path / 'x.json'
  sheet = tmp_path / 'x.png'
  assert cli.main(words(
      inputs, output, report=report, contact_sheet=sheet, seed=3,
      color_correction=0.5, steps=2,
  )) == 0
  found = json.loads(report.read_text())
  assert set(found) == KEYS
  assert found['frames'] == 44 and found['chunks'] == 4 and found['seed'] == 3
  assert found['fps'] == 25 and found['audio_seconds'] == SECONDS
  assert found['frames_per_s'] > 0 and found['peak_rss_mb'] > 50
  assert 'jax' in found['versions']
  assert video.read_frames(output).shape == (44, 32, 32, 3)
  heard = audio.read_recording(output)
  assert heard.seconds == pytest.approx(SECONDS, abs=0.001)
  said = audio.load_waveform(inputs / 'speech.wav')
  assert np.corrcoef(heard.waveform, said)[0, 1] > 0.9
  assert Image.open(sheet).size == (8 * 32, 3 * 32)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      'x.json', 'x.mp4', 'x.png'
  ]


@pytest.mark.parametrize('key, flag, value, default', [
    ('color_correction', 'color_correction', 1.0, 0.0),
    ('continuity_carry', 'carry', 'latent', 'reencode'),
])
def test_what_a_bundle_asks_for_holds_unless_a_flag_says_otherwise(
    inputs, tmp_path, key, flag, value, default
):
  other = tmp_path / 'bundle'
  shutil.copytree(inputs / 'bundle', other)
  config = json.loads((other / 'config.json').read_text())
  assert config['sampler'][key] == default
  config['sampler'][key] = value
  (other / 'config.json').write_text(json.dumps(config))
  for name, changes in (
      ('own', dict(bundle=other)),
      ('asked', {flag: value}),
      ('none', {'bundle': other, flag: default}),
      ('plain', {}),
  ):
    assert cli.main(words(inputs, tmp_path / f'{name}.mp4', **changes)) == 0
  own, asked, none, plain = (
      (tmp_path / f'{name}.mp4').read_bytes()
      for name in ('own', 'asked', 'none', 'plain')
  )
  assert own == asked != none == plain


def test_the_same_seed_gives_the_same_file(inputs, tmp_path):
  for name, seed in (('a', 1), ('b', 1), ('c', 2)):
    assert cli.main(words(inputs, tmp_path / f'{name}.mp4', seed=seed)) == 0
  a, b, c = ((tmp_path / f'{n}.mp4').read_bytes() for n in 'abc')
  assert a == b != c


def test_several_identities_have_a_video_each(inputs, tmp_path):
  other = inputs / 'grey.png'
  Image.new('RGB', (40, 40), (90, 90, 90)).save(other)
  sheet, report = tmp_path / 'x.png', tmp_path / 'x.json'
  assert cli.main(words(
      inputs, tmp_path / 'x.mp4', contact_sheet=sheet, report=report,
      audio_mode='streaming',
  ) + [f'--image={other}']) == 0
  faces, greys = (
      video.read_frames(tmp_path / f'x_{name}.mp4') for name in ('face', 'grey')
  )
  assert faces.shape == greys.shape == (44, 32, 32, 3)
  # Of one portrait the files would be equal to the byte.
  assert (faces != greys).mean() > 0.3
  for name in ('face', 'grey'):
    heard = audio.read_recording(tmp_path / f'x_{name}.mp4')
    assert heard.seconds == pytest.approx(SECONDS, abs=0.001)
  assert Image.open(sheet).size == (8 * 32, 2 * 3 * 32)
  found = json.loads(report.read_text())
  assert found['frames'] == 44 and found['identities'] == 2
  assert sorted(p.name for p in tmp_path.iterdir()) == [
      'x.json', 'x.png', 'x_face.mp4', 'x_grey.mp4'
  ]


def test_portraits_of_one_name(inputs, tmp_path, capfd):
  twice = [f'--image={inputs / "face.png"}']
  assert cli.main(words(inputs, tmp_path / 'x.mp4') + twice) == 2
  line = capfd.readouterr().err
  assert line.count('\n') == 1
  assert "'face'; expected different file names" in line


def test_a_bad_second_portrait_leaves_nothing(inputs, tmp_path, capfd):
  more = [f'--image={inputs / "missing.png"}']
  assert cli.main(words(inputs, tmp_path / 'x.mp4') + more) == 2
  assert 'missing.png: no such file' in capfd.readouterr().err
  assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
from asymtalker_jax.cli import main
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.parametrize('size', [300, 2500])
def test_a_full_disk_is_one_line_and_leaves_nothing(inputs, tmp_path, size):
  # The first size fails at the first frames, the second while closing.
  done = subprocess.run(
      [sys.executable, '-c', FULL_DISK, str(size),
       *words(inputs, tmp_path / 'x.mp4', steps=1)],
      capture_output=True, text=True, cwd=ROOT, check=False,
      env=os.environ | {'JAX_ENABLE_COMPILATION_CACHE': '0'},
  )
  assert done.returncode == 2, done.stderr
  last = done.stderr.splitlines()[-1]
  assert last.startswith(f'asymtalker generate: {tmp_path / "x.mp4"}: cannot')
  assert 'Traceback' not in done.stderr
  assert not list(tmp_path.iterdir())


def make(folder, name):
  """Files that cannot be used."""
  path = folder / name
  if name.startswith('empty'):
    path.write_bytes(b'')
  elif name.startswith('text'):
    path.write_text('hello, world ' * 50)
  elif name == 'one_pixel.png':
    Image.new('RGB', (1, 1)).save(path)
  elif name == 'short.wav':
    soundfile.write(path, np.full(480, 0.1), 16000)
  elif name == 'no_samples.wav':
    soundfile.write(path, np.zeros(0), 16000)
  elif name == 'nan.wav':
    soundfile.write(path, np.full(16000, np.nan), 16000, 'FLOAT')
  return path


BAD = [
    ('image', 'missing.png', 'no such file'),
    ('image', 'empty.png', 'not an image'),
    ('image', 'text.png', 'not an image'),
    ('image', 'one_pixel.png', 'at least 16x16'),
    ('audio', 'missing.wav', 'no such file'),
    ('audio', 'empty.wav', 'empty file'),
    ('audio', 'text.wav', 'not a readable media file'),
    ('audio', 'short.wav', 'at least 40 ms'),
    ('audio', 'no_samples.wav', 'at least 40 ms'),
    ('audio', 'nan.wav', 'NaN'),
    ('bundle', 'missing', 'expected a bundle folder'),
    ('output', 'missing/x.mp4', 'there is no folder'),
    ('output', 'x.avi', 'ends in .mp4'),
    ('output', '.mp4', 'ends in .mp4'),
    ('report', 'missing/x.json', 'there is no folder'),
]


@pytest.mark.parametrize('flag, name, text', BAD)
def test_bad_files_are_one_line(inputs, tmp_path, capfd, flag, name, text):
  bad = make(tmp_path, name)
  before = set(tmp_path.rglob('*'))
  assert cli.main(words(inputs, tmp_path / 'x.mp4', **{flag: bad})) == 2
  line = capfd.readouterr().err
  assert line.count('\n') == 1, line
  assert line.startswith('asymtalker generate: ')
  assert text in line and name in line
  assert set(tmp_path.rglob('*')) == before


@pytest.mark.parametrize(
    'changes, text',
    [
        (dict(steps=0), 'steps'),
        (dict(steps='four'), 'four'),
        (dict(seed=-1), 'seed'),
        (dict(seed=2**32), 'seed'),
        (dict(color_correction=1.5), 'color_correction'),
        (dict(carry='pixels'), 'pixels'),
        (dict(image=''), '--image is missing'),
    ],
)
def test_bad_values_are_one_line(inputs, tmp_path, capfd, changes, text):
  assert cli.main(words(inputs, tmp_path / 'x.mp4', **changes)) == 2
  line = capfd.readouterr().err
  assert line.count('\n') == 1 and text in line


@pytest.mark.parametrize('flag, other, text', [
    ('contact_sheet', 'output', 'would be written twice'),
    ('contact_sheet', 'image', 'is an input'),
    ('output', 'audio', 'is an input'),
])
def test_no_file_is_written_over_another(
    inputs, tmp_path, capfd, flag, other, text
):
  names = {'image': 'a.png', 'audio': 'a.mp4', 'output': 'x.mp4'}
  taken = tmp_path / names[other]
  if other != 'output':
    taken.write_bytes(b'precious')
  values = {other: taken, flag: tmp_path / '.' / names[other]}
  assert cli.main(words(inputs, tmp_path / 'x.mp4', **values)) == 2
  assert text in capfd.readouterr().err
  left = [path.read_bytes() for path in tmp_path.iterdir()]
  assert left == ([] if other == 'output' else [b'precious'])


def test_stray_words(inputs, tmp_path, capfd):
  assert cli.main(words(inputs, tmp_path / 'x.mp4') + ['stray']) == 2
  assert "unexpected word 'stray'" in capfd.readouterr().err


def test_a_folder_without_write_permission(inputs, tmp_path, capfd):
  folder = tmp_path / 'locked'
  folder.mkdir()
  folder.chmod(0o500)
  if os.access(folder, os.W_OK):
    pytest.skip('this user may write anywhere')
  assert cli.main(words(inputs, folder / 'x.mp4')) == 2
  assert 'not writable' in capfd.readouterr().err


@pytest.mark.parametrize('number, code', [
    (signal.SIGINT, 130), (signal.SIGTERM, 143),
])
def test_an_interrupted_run_leaves_nothing(inputs, tmp_path, number, code):
  long = tmp_path / 'long.wav'
  soundfile.write(long, np.full(16000 * 3000, 0.1, np.float32), 16000)
  out = tmp_path / 'out'
  out.mkdir()
  process = subprocess.Popen(
      [sys.executable, '-m', 'asymtalker_jax.cli.main',
       *words(inputs, out / 'x.mp4', audio=long)],
      cwd=ROOT, stderr=subprocess.PIPE, text=True,
      # A shell hands an ignored SIGINT down to what runs in its background.
      preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
  )
  for _ in range(1200):  # Until frames are being written.
    parts = list(out.iterdir())
    if parts and parts[0].stat().st_size > 0:
      break
    time.sleep(0.1)
  process.send_signal(number)
  stderr = process.communicate(timeout=120)[1]
  assert process.returncode == code, stderr
  assert 'Traceback' not in stderr
  assert not list(out.iterdir())


def test_real_media(inputs, tmp_path):
  assert cli.main(words(
      inputs, tmp_path / 'x.mp4',
      image=shared_media.path('portraits/exif_rotated_woman.jpg'),
      audio=shared_media.path('audio/orig_44k1_stereo_hallo3_0018.wav'),
  )) == 0
  assert sum(1 for _ in video.stream_frames(tmp_path / 'x.mp4')) == 307
