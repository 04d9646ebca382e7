"""`asymtalker evaluate` on synthetic clips with random weights."""

import dataclasses
import json
import pathlib

import numpy as np
from PIL import Image
import pytest
import soundfile

from asymtalker_jax.cli import main
from asymtalker_jax.evals import long_puppets
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.evals import report
from asymtalker_jax.generate import media
from asymtalker_jax.inputs import source
from tests.evals import speaking_boxes
from tests.evals import tiny_bundle

ROOT = pathlib.Path(__file__).parents[2]
FRAMES = 36


def _clip(seed):
  return speaking_boxes.clip(seed, FRAMES)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models')
  tiny_bundle.write(folder / 'bundle')
  reader_lib.save(
      folder / 'reader', speaking_boxes.READER, speaking_boxes.params()
  )
  return folder


@pytest.fixture
def run(models, tmp_path, monkeypatch):
  """Runs the verb with more flags; writes to tmp_path/out."""
  clips = [_clip(seed) for seed in range(3)]
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  return lambda *more: main.main([
      'evaluate', f'--bundle={models}/bundle', '--data=clips',
      f'--out={tmp_path}/out', f'--reader={models}/reader', *more,
  ])


def read(path):
  return json.loads((path / 'out/metrics.json').read_text())


def test_clips_and_a_long_video_are_scored_and_kept(run, tmp_path, capsys):
  words = (
      '--clips=2', '--seconds=4', '--window_s=2', '--long_videos=2',
      '--steps=1',
  )  # pyformat: disable
  assert run(*words) == 0
  printed = capsys.readouterr().out
  assert '| figure | target | gt | vae | student |' in printed
  assert '- puppets: ' in printed
  assert '72 samples of each of gt, vae, student' in printed
  metrics = read(tmp_path)
  assert set(metrics['systems']) == {'gt', 'vae', 'student'}
  assert set(metrics['cost']) == {
      'clips_s', 'long_s', 'peak_rss_mb', 'videos_made'
  }
  assert metrics['cost']['videos_made'] == 4
  assert metrics['systems']['gt']['figures']['psnr'] == 100.0
  assert metrics['long']['figures']['frames'] == 100
  assert set(metrics['long']['figures']) <= set(report.LONG_ROWS)
  long = metrics['long']['videos']
  assert [video['person'] for video in long] == [0, 1]
  assert metrics['long']['figures']['identity_last'] == pytest.approx(
      np.mean([video['figures']['identity_last'] for video in long])
  )
  assert {p.name for p in (tmp_path / 'out').iterdir()} == {
      'metrics.json', 'table.md', 'curves.png', 'frames.png', 'drift.png',
      'drift_frames.png', 'drift.html', 'videos',
  }
  page = (tmp_path / 'out/drift.html').read_text()
  assert page.count('src="data:video/mp4;base64,') == 2 and '://' not in page
  videos = tmp_path / 'out/videos/student'
  before = {p.name: p.stat().st_mtime_ns for p in videos.iterdir()}
  (videos / 'test_00001.mp4').unlink()
  assert run(*words) == 0
  after = {p.name: p.stat().st_mtime_ns for p in videos.iterdir()}
  changed = {name for name in before if before[name] != after[name]}
  assert changed == {'test_00001.mp4', 'test_00001.json'}
  for group in ('systems', 'long'):
    figures = [
        m['systems']['student']['figures'] if group == 'systems'
        else m['long']['figures'] for m in (metrics, read(tmp_path))
    ]
    timed = {'frames_per_s', 'first_frame_s', 'peak_rss_mb', 'memory_growth'}
    same = [{k: v for k, v in f.items() if k not in timed} for f in figures]
    assert same[0] == same[1]
  assert run(*words, '--seed=5') == 2
  assert "other values of ['seed']" in capsys.readouterr().err
  assert main.main([
      'evaluate', f'--compare={tmp_path}/out', f'--out={tmp_path}/page'
  ]) == 0
  assert 'out, person 1' in (tmp_path / 'page/drift.html').read_text()


def test_scores_of_clips_are_written_before_the_long_videos(
    run, tmp_path, monkeypatch
):
  def crash(self, frames, task, size):
    raise MemoryError

  monkeypatch.setattr(long_puppets.Puppets, 'watch', crash)
  with pytest.raises(MemoryError):
    run('--clips=1', '--seconds=4', '--window_s=2', '--steps=1')
  metrics = read(tmp_path)
  assert metrics['systems']['student']['figures']['videos'] == 1
  assert 'long' not in metrics and metrics['cost']['clips_s'] > 0


def test_clips_behind_a_long_video_that_cannot_be_read_are_failures(
    run, tmp_path, capsys, monkeypatch
):
  class Clips(list):

    def __getitem__(self, index):
      if index == 1:
        raise ValueError('cut off')
      return super().__getitem__(index)

  clips = Clips(_clip(seed) for seed in range(3))
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  assert run('--clips=0', '--seconds=4', '--window_s=2', '--steps=1') == 1
  printed = capsys.readouterr().out
  assert '- gt: test_00001: cut off' in printed
  assert '- Frechet distance: 50 frames per window' in printed
  assert [f['video'] for f in read(tmp_path)['failures']] == ['test_00001']


def test_student_and_teacher_are_compared_in_one_run(run, tmp_path, capsys):
  assert run(
      '--clips=1', '--roles=student,teacher', '--steps=1,2', '--guidance=2'
  ) == 0
  printed = capsys.readouterr().out
  assert '| student against teacher | student | teacher | ratio |' in printed
  found = read(tmp_path)['comparison']
  figures = {
      role: read(tmp_path)['systems'][role]['figures']
      for role in ('student', 'teacher')
  }
  assert found['speed_up'] == pytest.approx(
      figures['student']['frames_per_s'] / figures['teacher']['frames_per_s']
  )


def test_videos_of_others_are_scored_and_broken_ones_listed(
    run, tmp_path, capsys
):
  peer = tmp_path / 'peer'
  peer.mkdir()
  for index in range(2):
    size = tiny_bundle.SIZE
    path = peer / f'test_{index:05d}.mp4'
    with media.VideoWriter(path, size, size, crf=0) as file:
      file.write(_clip(index).frames)
  assert run('--clips=2', f'--videos={peer}') == 0
  figures = read(tmp_path)['systems']['peer']['figures']
  assert figures['psnr'] > 28.0 and figures['identity_relative'] > 0.98
  assert 'student' not in read(tmp_path)['systems']
  data = (peer / 'test_00001.mp4').read_bytes()
  (peer / 'test_00001.mp4').write_bytes(data[: len(data) // 3])
  assert run('--clips=3', f'--videos={peer}') == 1
  printed = capsys.readouterr().out
  assert '2 failures:' in printed and 'no video test_00002.mp4' in printed
  failures = read(tmp_path)['failures']
  assert [f['video'] for f in failures] == ['test_00001', 'test_00002']
  assert 'test_00001.mp4: ' in failures[0]['reason']
  assert read(tmp_path)['systems']['peer']['figures']['videos'] == 1.0


def test_a_system_without_a_good_video_is_listed(run, tmp_path, capsys):
  peer = tmp_path / 'peer'
  peer.mkdir()
  for name in ('test_00000.mp4', 'test_00001.mp4'):
    (peer / name).write_bytes(b'no video')
  assert run('--clips=2', f'--videos=Ditto={peer}', '--published=hdtf') == 1
  assert '- Ditto: test_00001: ' in capsys.readouterr().out
  metrics = read(tmp_path)
  assert [f['system'] for f in metrics['failures']] == ['Ditto'] * 2
  assert metrics['systems']['Ditto']['figures'] == {'videos': 0.0}


def test_clips_are_asked_for_where_nobody_made_one(run, tmp_path, capsys):
  peer = tmp_path / 'peer'
  assert run('--clips=2', f'--videos={peer}') == 2
  error = capsys.readouterr().err.strip()
  assert 'no video test_00000.mp4, one of 2 of 2' in error
  assert sorted(p.name for p in (tmp_path / 'out/tasks').iterdir()) == [
      'test_00000.png', 'test_00000.wav', 'test_00001.png', 'test_00001.wav',
  ]  # pyformat: disable
  sound = soundfile.info(tmp_path / 'out/tasks/test_00000.wav')
  assert sound.duration == FRAMES / 25


def test_all_of_a_small_dataset_are_scored_by_default(run, tmp_path, capsys):
  assert run('--steps=1') == 0
  assert '- 3 of 3 cases of clips' in capsys.readouterr().out
  assert read(tmp_path)['cases'] == {'scored': 3, 'of': 3}
  assert run('--steps=1', '--clips=2') == 0
  assert '- 2 of 3 cases of clips' in capsys.readouterr().out


def test_a_long_video_of_others_is_asked_for_and_scored(run, tmp_path, capsys):
  peer = tmp_path / 'peer'  # It need not be there yet.
  words = '--clips=0', '--seconds=4', '--window_s=2', f'--videos={peer}'
  assert run(*words) == 2
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert 'one of 1 of 1 that are missing' in error
  portrait, = (tmp_path / 'out/tasks').glob('*.png')
  sound = portrait.with_suffix('.wav')
  assert soundfile.info(sound).duration == 4.0
  image = np.asarray(Image.open(portrait))
  peer.mkdir()
  with media.VideoWriter(
      peer / f'{portrait.stem}.mp4', *image.shape[:2], crf=0
  ) as file:
    file.write(np.stack([image] * 98))  # Two frames fewer are no other video.
  link = tmp_path / 'link'
  (tmp_path / 'far/away').mkdir(parents=True)
  link.symlink_to(tmp_path / 'far/away')
  assert run(*words, f'--out={link}/out') == 0
  assert run(*words) == 0
  printed, warned = capsys.readouterr()
  assert '| figure | target | peer, 4 s |' in printed
  assert 'belong to no case' not in warned
  long = read(tmp_path)['long']
  assert long['role'] == 'peer' and long['figures']['frames'] == 98
  assert long['figures']['identity_change'] == pytest.approx(0.0, abs=1e-3)
  assert 'frames_per_s' not in long['figures']
  page = (tmp_path / 'out/drift.html').read_text()
  assert 'src="data:video/mp4;base64,' in page


def test_a_long_video_of_another_length_is_a_failure(run, tmp_path, capsys):
  peer = tmp_path / 'peer'
  peer.mkdir()
  words = (
      '--clips=0', '--seconds=4', '--window_s=2', '--long_videos=2',
      f'--videos={peer}',
  )  # pyformat: disable
  assert run(*words) == 2
  for count, portrait in zip(
      (100, 50), sorted((tmp_path / 'out/tasks').glob('*.png'))
  ):
    image = np.asarray(Image.open(portrait))
    with media.VideoWriter(
        peer / f'{portrait.stem}.mp4', *image.shape[:2], crf=0
    ) as file:
      file.write(np.stack([image] * count))
  assert run(*words) == 1
  failure, = read(tmp_path)['failures']
  assert failure['reason'].startswith('50 frames, where 100 are wanted')
  assert len(read(tmp_path)['long']['videos']) == 1


def test_clips_are_not_lost_with_the_long_video(
    run, tmp_path, capsys, monkeypatch
):
  def broken(self, frames, task, size):
    raise ValueError('cut off after 0.4 s')

  monkeypatch.setattr(long_puppets.Puppets, 'watch', broken)
  gate = tmp_path / 'gate.py'
  gate.write_text(
      'import ml_collections\n'
      'def get_config():\n'
      '  return ml_collections.ConfigDict({"long": {"lip_sync": {"min": -1}}})'
  )
  assert run(
      '--clips=1', '--seconds=4', '--window_s=2', '--steps=1', f'--gate={gate}'
  ) == 1
  printed = capsys.readouterr().out
  assert 'FAIL  long: lip_sync not measured' in printed
  metrics = read(tmp_path)
  assert metrics['failures'][0]['reason'] == 'cut off after 0.4 s'
  assert metrics['systems']['student']['figures']['videos'] == 1.0


def test_people_without_a_mouth_track_talk_for_long_too(
    run, tmp_path, capsys, monkeypatch
):
  clips = [dataclasses.replace(_clip(seed), tracks={}) for seed in range(3)]
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  identity = lambda frames, clip, image: {'arcface': float(frames.mean()) / 99}
  monkeypatch.setattr(
      networks, 'load',
      lambda names, folder: {
          name: lambda: networks.PerVideo(name, 'made up', identity)
          for name in names
      },
  )  # pyformat: disable
  words = (
      '--clips=1', '--seconds=4', '--window_s=2', '--steps=1',
      '--metrics=pixels,arcface',
  )  # pyformat: disable
  assert run(*words) == 0
  assert 'identity similarity, last window' in capsys.readouterr().out
  metrics = read(tmp_path)
  long = metrics['long']['videos'][0]
  assert set(long['curves']) == {'identity', 'face', 'lab_shift',
                                 'frame_energy'}  # pyformat: disable
  assert metrics['long']['figures']['frames_per_s'] > 0
  assert (tmp_path / 'out' / long['video']).exists()
  assert main.main([
      'evaluate', f'--compare={tmp_path}/out', f'--out={tmp_path}/page'
  ]) == 0


def test_a_broken_bound_is_named_and_is_exit_code_1(run, tmp_path, capsys):
  gate = tmp_path / 'gate.py'
  gate.write_text(
      'import ml_collections\n'
      'def get_config():\n'
      '  return ml_collections.ConfigDict({"clips": {\n'
      '      "psnr_still": {"min": 0.0}, "lip_sync": {"min": 0.99}}})\n'
  )
  words = '--clips=1', '--steps=1', f'--gate={gate}'
  assert run(*words) == 1
  printed = capsys.readouterr().out
  assert 'gate on student: 1 of 2 kept' in printed
  assert 'FAIL  clips: lip_sync' in printed and 'pass  clips: psnr_still' in (
      printed
  )
  assert run(*words, '--gate.clips.lip_sync.min=-1.0') == 0
  assert read(tmp_path)['gate'][0]['passed'] is True


def test_parts_are_generated_apart_and_scored_together(run, tmp_path, capsys):
  words = (
      '--clips=3', '--steps=1', '--seconds=4', '--window_s=2',
      '--long_videos=2',
  )  # pyformat: disable
  for part in ('0/2', '1/2'):
    assert run(*words, f'--part={part}') == 0
    assert not (tmp_path / 'out/metrics.json').exists()
  # One of the clips and one of the long ones.
  assert '2 of 2 videos of part 1/2' in capsys.readouterr().out
  videos = list((tmp_path / 'out/videos/student').glob('*.mp4'))
  assert len(videos) == 5
  assert run(*words) == 0
  assert read(tmp_path)['cost']['videos_made'] == 0


def test_a_part_goes_on_behind_a_case_that_cannot_be_made(
    run, tmp_path, capsys, monkeypatch
):
  clips = [_clip(seed) for seed in range(3)]
  clips[0] = dataclasses.replace(clips[0], frames=clips[0].frames[:, :16])
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  assert run('--clips=3', '--steps=1', '--part=0/2') == 1
  printed = capsys.readouterr().out
  assert '1 of 2 videos of part 0/2' in printed
  assert '- student: test_00000: frames of 32x16 pixels' in printed
  assert (tmp_path / 'out/videos/student/test_00002.mp4').exists()


@pytest.mark.parametrize('flags, message', [
    (('--clips=1', '--seconds=10', '--metrics=puppets'), 'no mouth tracks'),
    (('--clips=1', '--metrics=pixels,puppets'), 'no mouth tracks'),
])
def test_data_without_mouth_tracks_is_refused_before_anything_is_made(
    run, tmp_path, capsys, monkeypatch, flags, message
):
  clips = [dataclasses.replace(_clip(0), tracks={})]
  monkeypatch.setattr(source, 'open_clips', lambda path, split: clips)
  assert run(*flags) == 2
  error = capsys.readouterr().err.strip()
  assert message in error and '\n' not in error
  assert not (tmp_path / 'out').exists()


def test_the_bundled_checkpoint_keeps_its_bounds(tmp_path, capsys):
  pytest.importorskip('espeakng_loader')
  assert main.main([
      'data', 'build', f'--out={tmp_path}/puppets', '--size=128', '--frames=50',
      '--clips_train=1', '--clips_test=2', '--workers=0',
  ]) == 0  # pyformat: disable
  code = main.main([
      'evaluate', '--bundle=tiny', f'--data={tmp_path}/puppets', '--clips=2',
      f'--out={tmp_path}/out', f'--gate={ROOT}/configs/gate.py',
  ])  # pyformat: disable
  assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize('flag, message', [
    ('--clips=9', 'clips=9'),
    ('--clips=-1', 'clips'),
    ('--roles=critic', "'critic'; expected some of"),
    ('--roles=student,student', 'expected each once'),
    ('--seconds=inf', '--seconds=inf: expected a finite number'),
    ('--roles=teacher --guidance=nan', '--guidance=nan: expected a finite'),
    ('--steps=1,2', 'one number per role'),
    ('--steps=many', "'many'"),
    ('--guidance=2', 'a student has none'),
    ('--metrics=beauty', "['beauty']; expected some of"),
    ('--part=2/2', '0 <= I < N'),
    ('--part=0/2 --published=hdtf', '--part scores nothing'),
    ('--clips=0 --seconds=10 --published=hdtf', 'no figures for its table'),
    ('--part=0/2 --gate=GATE', '--part scores nothing'),
    ('--videos=a,b --seconds=10', 'expected one folder'),
    ('--videos=a/peer,b/peer', "two systems named 'peer'; NAME=PATH gives"),
    ('--videos=gt=a', "a system named 'gt'"),
    ('--compare=a --gate=GATE', '--compare measures nothing'),
    ('--gate=nowhere.py', 'nowhere.py'),
    ('--seconds=20 --window_s=0.5', 'window_s=0.5: expected at least 1'),
    ('--seconds=1 --window_s=1', '--seconds=1: expected at least 1.28'),
    ('--seconds=5', '--seconds=5: expected at least 10'),
    ('--seconds=10 --long_videos=0', 'long_videos=0: expected at least 1'),
    ('--seconds=10 --long_videos=4', 'of 3 different people'),
    ('--bundle=nowhere', 'nowhere'),
    ('--seconds=10 --metrics=pixels --reader=nowhere', 'nowhere/reader.json'),
    ('--metrics=fid,arcface', '3 of 3 files are missing'),
    ('--roles=student,teacher --metrics=pixels', "'puppets' or 'sync'"),
    ('--roles=student,teacher --guidance=2 --steps=1,0', "'0'"),
    ('--clips=0 --seconds=10 --gate=GATE', "['clips']"),
])
def test_wrong_values_are_one_line_and_leave_nothing(
    run, tmp_path, capsys, flag, message
):
  gate = tmp_path / 'gate.py'
  gate.write_text(
      'import ml_collections\n'
      'def get_config():\n'
      '  return ml_collections.ConfigDict({"clips": {"psnr": {"min": 0.0}}})\n'
  )
  clips = () if 'clips' in flag else ('--clips=1',)
  assert run(*flag.replace('GATE', str(gate)).split(), *clips) == 2
  error = capsys.readouterr().err.strip()
  assert message in error and '\n' not in error
  assert not (tmp_path / 'out').exists()


def test_missing_flags_are_named(capsys):
  assert main.main(['evaluate', '--bundle=tiny']) == 2
  assert '--data' in capsys.readouterr().err
