"""Building, resuming and reading a puppets dataset."""

import os
import pickle

import numpy as np
import pytest

from asymtalker_jax.cli import main as cli
from asymtalker_jax.inputs import source
from data import codec
from data import record_folder
from data.puppets import build
from data.puppets import clip as clip_lib
from data.puppets import puppets_dataset_builder as puppets

pytest.importorskip('espeakng_loader')
RECIPE = puppets.Recipe(clips_train=3, clips_test=1, frames=6, size=64,
                        clips_per_identity=2)


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'puppets'
  build.build(folder, RECIPE, workers=0)
  return folder


def test_clips_read_back_as_they_were_made(folder):
  clips = source.open_clips(folder, 'train')
  assert len(clips) == 3
  made = clip_lib.make_clip(*RECIPE.seeds('train', 1), frames=6, size=64)
  read = clips[1]
  error = read.frames.astype(float) - made.frames
  assert 10 * np.log10(255**2 / (error**2).mean()) > 35
  np.testing.assert_allclose(read.waveform, made.waveform, atol=1e-4)
  assert read.identity == made.identity
  for name, track in made.tracks.items():
    np.testing.assert_array_equal(read.tracks[name], track)


def test_splits_share_no_identity_and_takes_share_one(folder):
  train = [c.identity for c in source.open_clips(folder, 'train')]
  test = [c.identity for c in source.open_clips(folder, 'test')]
  assert train == [0, 0, 1] and not set(train) & set(test)


def test_slices_are_lazy_and_clips_can_be_pickled(folder):
  clips = source.open_clips(folder, 'train')[1:]
  assert len(clips) == 2 and clips[-1].identity == 1
  again = pickle.loads(pickle.dumps(clips))
  np.testing.assert_array_equal(again[0].frames, clips[0].frames)
  with pytest.raises(IndexError):
    clips[2]  # pylint: disable=pointless-statement


def test_a_build_goes_on_where_it_stopped(folder, monkeypatch):
  shard = folder / record_folder.shard_name('puppets', 'test', 0, 1)
  content = shard.read_bytes()
  shard.unlink()
  made = []
  make = puppets.make_example
  monkeypatch.setattr(puppets, 'make_example', lambda *job: (
      made.append(job[1:]), make(*job))[1])
  build.build(folder, RECIPE, workers=0)
  assert made == [('test', 0)] and len(shard.read_bytes()) == len(content)


def test_a_build_that_stopped_in_its_last_split_goes_on(tmp_path, monkeypatch):
  monkeypatch.setattr(build, 'CLIPS_PER_SHARD', 1)
  recipe = puppets.Recipe(clips_train=1, clips_test=2, frames=6, size=64,
                          clips_per_identity=1)
  build.build(tmp_path, recipe, workers=0)
  (tmp_path / record_folder.shard_name('puppets', 'test', 1, 2)).unlink()
  build.build(tmp_path, recipe, workers=0)
  build.build(tmp_path, recipe, workers=0)  # All of it is there.
  assert len(source.open_clips(tmp_path, 'test')) == 2


def test_another_recipe_or_a_foreign_folder_is_refused(folder, tmp_path):
  with pytest.raises(ValueError, match='frames=6; expected frames=7'):
    build.build(folder, puppets.Recipe(frames=7, clips_train=3, clips_test=1,
                                       size=64, clips_per_identity=2), 0)
  (tmp_path / 'thesis.txt').write_text('mine')
  with pytest.raises(ValueError, match='thesis.txt'):
    build.build(tmp_path, RECIPE, 0)


def test_values_out_of_range_are_named():
  with pytest.raises(ValueError, match='size=31'):
    puppets.Recipe(size=31)
  with pytest.raises(ValueError, match='clips_test=-1'):
    puppets.Recipe(clips_test=-1)


@pytest.mark.parametrize('word, answer', [
    ('--dataset=dolls', "'dolls' is unknown; expected one of ['puppets'"),
    ('--workers=-1', 'workers=-1 is negative'),
    ('--source=folder', '--source has no meaning here'),
])
def test_flags_that_do_not_fit_are_named(word, answer, tmp_path, capsys):
  out = tmp_path / 'out'
  assert cli.main(['data', 'build', f'--out={out}', word]) == 2
  assert answer in capsys.readouterr().err and not out.exists()


def test_a_missing_folder_dataset_or_split_is_named(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    source.open_clips(tmp_path / 'none', 'train')
  (tmp_path / 'stray.txt').write_text('x')
  with pytest.raises(FileNotFoundError, match='stray.txt'):
    source.open_clips(tmp_path, 'train')
  with pytest.raises(ValueError, match=r"'valid'.*'test', 'train'"):
    source.open_clips(folder, 'valid')


def test_the_parent_of_a_dataset_opens_too(folder):
  assert len(source.open_clips(folder.parent, 'test')) == 1


def test_audio_of_another_rate_is_refused():
  wave = np.zeros(640, np.float32)
  assert source.decode_audio(codec.encode_audio(wave)).shape == (640,)
  with pytest.raises(ValueError, match='16000 Hz mono'):
    source.decode_audio(codec.encode_audio(np.zeros((640, 2), np.float32)))


def test_tfds_can_prepare_the_dataset_without_tensorflow(tmp_path):
  recipe = puppets.Recipe(clips_train=1, clips_test=1, frames=5, size=64)
  builder = puppets.Puppets(recipe=recipe, data_dir=tmp_path,
                            file_format='array_record')
  builder.download_and_prepare()
  assert source.open_clips(tmp_path / 'puppets', 'train')[0].frames.shape == (
      5, 64, 64, 3)


def test_two_builds_of_a_folder_do_not_meet(folder):
  with record_folder.locked(folder):
    with pytest.raises(ValueError, match='another process is building there'):
      build.build(folder, RECIPE, workers=0)
  build.build(folder, RECIPE, workers=0)


def test_a_worker_that_dies_ends_the_build_with_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(build, '_serialize', _die)
  with pytest.raises(ValueError, match='died.*run the command again'):
    build.build(tmp_path / 'new', RECIPE, workers=1)


def _die(job):
  os._exit(9)
