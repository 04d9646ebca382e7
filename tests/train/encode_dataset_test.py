"""A folder of videos is encoded, by one process and in parts under Beam."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax import types
from asymtalker_jax.cli import main as cli
from asymtalker_jax.inputs import encoded
from asymtalker_jax.train import encode_dataset
from asymtalker_jax.train import encode_on_beam
from data.videos import build
from data.videos import videos_dataset_builder as videos
from tests.data import synthetic_video as synthetic
from tests.evals import tiny_bundle

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'encode.py'


@pytest.fixture(name='command', scope='module')
def _command(tmp_path_factory):
  """Three and one clips of a tiny bundle's size, ready to be encoded."""
  folder = tmp_path_factory.mktemp('encode')
  tiny_bundle.write(folder / 'bundle')
  recipe = videos.Recipe(frames=20, size=tiny_bundle.SIZE)
  for name, seconds in (('train/ann/a', 2.0), ('train/bob', 1.0),
                        ('test/eve', 1.0)):
    synthetic.write(folder / 'in' / f'{name}.mp4',
                    [synthetic.picture()] * round(25 * seconds),
                    synthetic.hum(seconds))
  build.build(folder / 'clips', folder / 'in', recipe, 0, synthetic.find_red)
  return ['data', 'encode', f'--config={CONFIG}:micro', '--config.windows=1',
          '--config.references=1', '--config.examples_per_shard=1',
          f'--data={folder}/clips', f'--vae={folder}/bundle']


def test_clips_of_videos_are_encoded(command, tmp_path):
  assert cli.main([*command, f'--out={tmp_path}']) == 0
  train = encoded.open_encoded(str(tmp_path), 'train')
  test = encoded.open_encoded(str(tmp_path), 'test')
  assert (len(train), len(test)) == (3, 1)
  people = [int(train[i]['identity']) for i in range(3)]
  assert people[0] == people[1] != people[2]
  assert all(np.isfinite(train[0][field]).all() for field in train.shapes)


def test_mirrored_clips_follow_those_of_the_training_split(command, tmp_path):
  args = ['--config.mirror=True', f'--out={tmp_path}']
  assert cli.main([*command, *args]) == 0
  train = encoded.open_encoded(str(tmp_path), 'train')
  test = encoded.open_encoded(str(tmp_path), 'test')
  assert (len(train), len(test)) == (6, 1)
  clip, mirrored = train[0], train[3]
  for field in ('audio', 'identity'):
    np.testing.assert_array_equal(clip[field], mirrored[field])
  for field in ('latents', 'reference_latents'):
    assert not np.array_equal(clip[field], mirrored[field])


def test_a_mirrored_clip_has_left_and_right_exchanged():
  clips = [
      types.Clip(frames=np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) + i,
                 waveform=np.full(1280, i), identity=i, tracks={'yaw': [1, 2]})
      for i in range(2)
  ]
  assert encode_dataset.clip_at(clips, 1) is clips[1]
  mirrored = encode_dataset.clip_at(clips, 3)
  np.testing.assert_array_equal(mirrored.frames, clips[1].frames[:, :, ::-1])
  assert mirrored.waveform is clips[1].waveform
  assert not mirrored.tracks, 'a turn to the left would be one to the right'


def test_beam_runs_the_parts_and_they_make_the_same_files(
    command, tmp_path, monkeypatch
):
  pytest.importorskip('apache_beam')
  parts = []
  encode = encode_on_beam.encode_lib.encode_dataset
  monkeypatch.setattr(encode_on_beam.encode_lib, 'encode_dataset',
                      lambda *words: (parts.append(words[4:]), encode(*words)))
  assert cli.main([*command, f'--out={tmp_path}/beam', '--workers=2',
                   '--beam_options=']) == 0
  assert sorted(parts) == [(0, 2), (1, 2)]
  monkeypatch.undo()
  assert cli.main([*command, f'--out={tmp_path}/plain']) == 0
  for split in ('train', 'test'):
    ours, theirs = (encoded.open_encoded(f'{tmp_path}/{name}', split)
                    for name in ('beam', 'plain'))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
      for field in ours.shapes:
        np.testing.assert_array_equal(a[field], b[field])


def test_without_beam_one_line_says_what_to_install(
    command, tmp_path, monkeypatch, capsys
):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  assert cli.main([*command, f'--out={tmp_path}/out', '--beam_options=']) == 2
  assert "pip install -e '.[beam]'" in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_a_part_and_beam_exclude_each_other(command, tmp_path, capsys):
  assert cli.main([*command, f'--out={tmp_path}/out', '--beam_options=',
                   '--worker=1']) == 2
  assert '--worker has no meaning here' in capsys.readouterr().err


def test_references_lie_behind_the_windows_and_not_next_to_them():
  frames = encode_dataset.outside(117, 176, 2)
  np.testing.assert_array_equal(frames, [146, 175])
  np.testing.assert_array_equal(encode_dataset.outside(117, 118, 3), [117] * 3)


def test_a_folder_begun_from_other_clips_is_not_continued(
    command, tmp_path, capsys, monkeypatch
):
  assert cli.main([*command, f'--out={tmp_path}']) == 0
  assert cli.main([*command, f'--out={tmp_path}']) == 0
  monkeypatch.setattr(
      encode_dataset.source, 'fingerprint', lambda clips: [len(clips), 'x']
  )
  assert cli.main([*command, f'--out={tmp_path}']) == 2
  assert 'written with other meta' in capsys.readouterr().err


def test_latents_of_two_vaes_are_not_mixed(command, tmp_path):
  assert cli.main([*command, f'--out={tmp_path}']) == 0
  other = bundle.load(tmp_path / 'vae', parts=('vae',)).params['vae']
  encode_dataset.check_vae(
      str(tmp_path), jax.tree.map(lambda x: x * (1 + 2**-9), other)
  )
  changed = jax.tree.map(lambda x: x * 1.1, other)
  with pytest.raises(ValueError, match='another VAE.*tensors differ'):
    encode_dataset.check_vae(str(tmp_path), changed)
  bundle.save(
      tmp_path / 'changed', variant='micro',
      model=bundle.load(tmp_path / 'vae', parts=()).config['model'],
      params={'vae': changed},
  )
  again = [w for w in command if not w.startswith('--vae=')]
  code = cli.main([*again, f'--vae={tmp_path}/changed', f'--out={tmp_path}'])
  assert code == 2
  encode_dataset.check_vae(str(tmp_path), other)
