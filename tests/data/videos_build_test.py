"""A folder of videos becomes a dataset; bad files are named, work resumes."""

import functools
import json
import os

import numpy as np
import pytest
import soundfile

from asymtalker_jax.cli import main as cli
from asymtalker_jax.generate import portrait
from asymtalker_jax.inputs import source
from data.puppets import renderer
from data.videos import build
from data.videos import videos_dataset_builder as videos
from tests.data import synthetic_video as synthetic

RECIPE = videos.Recipe(frames=8, size=64)


def good(path, frames=17, **options):
  return synthetic.write(path, [synthetic.picture(**options)] * frames,
                         synthetic.hum(frames / 25))


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """Two people with two and one clips, and what is of no use."""
  folder = tmp_path / 'videos'
  good(folder / 'train' / 'ann' / 'a.mp4')
  good(folder / 'test' / 'eve' / 'e.mkv', frames=9)
  good(folder / 'train' / 'ann' / 'faceless.mp4', face=None)
  good(folder / 'train' / 'ann' / 'crowd.mp4', others=[(4, 4, 24)])
  synthetic.write(folder / 'train' / 'ann' / 'mute.mp4',
                  [synthetic.picture()] * 17)
  synthetic.write(folder / 'train' / 'ann' / 'silent.mp4',
                  [synthetic.picture()] * 17, 0 * synthetic.hum(17 / 25))
  (folder / 'train' / 'ann' / 'corrupt.mp4').write_bytes(b'no video' * 99)
  soundfile.write(folder / 'train' / 'ann' / 'voice.mp4', np.zeros(16000),
                  16000, format='WAV')
  return folder


def run(folder, out, find_faces=synthetic.find_red, workers=0):
  return build.build(out, folder, RECIPE, workers, find_faces)


def test_clips_are_read_back_and_the_rest_is_counted_and_named(
    folder, tmp_path
):
  summary = run(folder, tmp_path / 'out')
  clips = source.open_clips(tmp_path / 'out', 'train')
  assert len(clips) == 2 and summary.clips == {'train': 2, 'test': 1}
  for start, clip in zip((0, 8), clips):
    assert clip.frames.shape == (8, 64, 64, 3)
    assert clip.waveform.shape == (8 * 640,)
    assert 0.01 < clip.waveform.std() < 0.03
    (_, (left, _, side)), = synthetic.find_red(clip.frames[0])
    assert abs(left + side / 2 - 32) <= 2
    assert clips.example(start // 8)['source'] == b'train/ann/a.mp4'
    assert clips.example(start // 8)['start_frame'] == start
  other = source.open_clips(tmp_path / 'out', 'test')[0]
  assert len({clips[0].identity, clips[1].identity, other.identity}) == 2
  text = summary.text()
  for line in ('8 videos: 3 clips, 2 broken files, 4 other videos',
               'dropped 2: no face', 'dropped 2: several faces',
               'dropped 3: no sound', 'train/ann/mute.mp4: no sound',
               'train/ann/silent.mp4: no sound',
               'train/ann/faceless.mp4: no face',
               'train/ann/crowd.mp4: several faces',
               'train/ann/corrupt.mp4: not a readable media file',
               'train/ann/voice.mp4: no video in this file'):
    assert line in text
  report = json.loads((tmp_path / 'out' / 'report.json').read_text())
  assert [o['video'] for o in report if o['clips']] == [
      'train/ann/a.mp4', 'test/eve/e.mkv']
  assert not list((tmp_path / 'out').rglob('*.part'))


def test_an_interrupted_build_goes_on(folder, tmp_path):
  out, looked = tmp_path / 'out', []

  def interrupted(rgb):
    looked.append(rgb)
    if len(looked) == 6:
      raise KeyboardInterrupt
    return synthetic.find_red(rgb)
  with pytest.raises(KeyboardInterrupt):
    run(folder, out, interrupted)
  assert not (out / 'dataset_info.json').exists()
  assert sorted(p.name for p in (out / 'parts').iterdir()) == [
      'train-00000.array_record', 'train-00000.json',
      'train-00001.array_record', 'train-00001.json']
  looked.clear()
  run(folder, out, lambda rgb: (looked.append(rgb),
                                synthetic.find_red(rgb))[1])
  whole = tmp_path / 'whole'
  assert run(folder, whole) == run(folder, out)
  # Faces are looked for in each fifth frame; a.mp4 was complete.
  assert len(looked) == 2 + 3 * 4
  for split, count in (('train', 2), ('test', 1)):
    for index in range(count):
      ours, theirs = (source.open_clips(path, split)[index]
                      for path in (out, whole))
      np.testing.assert_array_equal(ours.frames, theirs.frames)


def test_a_kill_while_shards_are_named(folder, tmp_path, monkeypatch):
  replace = build.os.replace

  def fail(path, target):
    if 'videos-test' in str(target):
      raise KeyboardInterrupt
    replace(path, target)
  monkeypatch.setattr(build.os, 'replace', fail)
  with pytest.raises(KeyboardInterrupt):
    run(folder, tmp_path / 'out')
  monkeypatch.undo()
  assert run(folder, tmp_path / 'out', find_faces=None).clips['test'] == 1
  assert len(source.open_clips(tmp_path / 'out', 'test')) == 1


def test_other_videos_or_values_are_refused(folder, tmp_path):
  run(folder, tmp_path / 'out')
  with pytest.raises(ValueError, match='frames=8; expected frames=9'):
    build.build(tmp_path / 'out', folder, videos.Recipe(frames=9, size=64))
  good(folder / 'train' / 'new.mp4')
  with pytest.raises(ValueError, match='videos=8; expected .*videos=9'):
    run(folder, tmp_path / 'out')
  with pytest.raises(ValueError, match='size=63'):
    videos.Recipe(size=63)


def test_a_split_without_clips_is_an_error_that_says_why(tmp_path):
  good(tmp_path / 'in' / 'train' / 'ann.mp4')
  good(tmp_path / 'in' / 'test' / 'eve.mp4', face=None)
  with pytest.raises(ValueError, match='(?s)no clip left.*eve.mp4: no face'):
    run(tmp_path / 'in', tmp_path / 'out')
  with pytest.raises(FileNotFoundError, match='unfinished'):
    source.open_clips(tmp_path / 'out', 'train')


def puppet(path):
  """A drawn head, which the real face finder knows, off the centre."""
  rgb = np.full((160, 240, 3), 120, np.uint8)
  rgb[30:158, 100:228] = renderer.render_portrait(101, 128)
  return synthetic.write(path, [rgb] * 9, synthetic.hum(9 / 25))


def test_the_command_names_broken_files_and_exits_with_1(tmp_path, capsys):
  folder, out = tmp_path / 'in', tmp_path / 'out'
  puppet(folder / 'train' / 'ann.mp4')
  puppet(folder / 'test' / 'eve.mp4')
  words = ['data', 'build', '--dataset=videos', f'--source={folder}',
           '--frames=8', '--size=64', '--workers=1']
  assert cli.main([*words, f'--out={out}']) == 0
  assert 'videos: 1 train, 1 test clips in' in capsys.readouterr().out
  (folder / 'train' / 'bad.avi').write_bytes(b'x')
  assert cli.main([*words, f'--out={out}2']) == 1
  assert 'train/bad.avi: not a readable' in capsys.readouterr().out
  assert len(source.open_clips(f'{out}2', 'train')) == 1
  assert cli.main([*words, f'--out={out}3', '--seed=1']) == 2
  assert cli.main(['data', 'build', '--dataset=videos', f'--out={out}3']) == 2
  assert 'missing --source' in capsys.readouterr().err


def test_the_face_finder_sees_two_heads():
  heads = [renderer.render_portrait(seed, 128) for seed in (101, 104)]
  sure = [square for both, square in portrait.find_faces(
      np.concatenate(heads, axis=1)) if both]
  assert sorted(left // 128 for left, _, _ in sure) == [0, 1]


def die_at_eve(video):
  if video.path.stem == 'eve':
    os._exit(1)  # As a decoder that crashes does.
  return videos.Outcome(video=video.name), iter([b'example'])


def die_once(folder, video):
  try:
    (folder / video.path.stem).mkdir()
  except FileExistsError:
    return videos.Outcome(video=video.name), iter([b'example'])
  os._exit(1)  # As for want of memory.


def two_parts(folder):
  make = lambda name: build.people.Video(
      path=folder / f'{name}.mp4', name=name, split='train', person=name)
  return [build.Part(path=folder / f'{i}.array_record', split='train',
                     videos=[make(name) for name in names])
          for i, names in enumerate((('ann', 'eve', 'joe'), ('kim',)))]


def test_a_video_that_crashes_its_process_is_left_out(tmp_path):
  found = list(build._run(die_at_eve, two_parts(tmp_path), workers=2))
  broken = {o.video: o.broken for part in found for o in part}
  assert broken == {'ann': '', 'joe': '', 'kim': '',
                    'eve': 'crashes the process that reads it'}
  assert not list(tmp_path.glob('*.at'))


def test_a_process_that_dies_of_something_else_is_reported(tmp_path):
  look = functools.partial(die_once, tmp_path)
  with pytest.raises(ValueError, match="process died.*at one of .'ann'.*again"):
    list(build._run(look, two_parts(tmp_path)[:1], workers=1))


def test_tfds_can_prepare_the_dataset_without_tensorflow(tmp_path):
  pytest.importorskip('importlib_resources')
  puppet(tmp_path / 'in' / 'train' / 'ann.mp4')
  puppet(tmp_path / 'in' / 'test' / 'eve.mp4')
  builder = videos.Videos(source=tmp_path / 'in', recipe=RECIPE,
                          data_dir=tmp_path, file_format='array_record')
  builder.download_and_prepare()
  clip = source.open_clips(tmp_path / 'videos', 'test')[0]
  assert clip.frames.shape == (8, 64, 64, 3)
