"""Manifests: what is in them, and what is wrong with them or their files."""

import dataclasses
import json
import logging
import os

import numpy as np
import pytest
import soundfile

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import pixels
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import systems
from asymtalker_jax.generate import media

SIZE, FRAMES = 32, 50


def write_video(path, sound=True, fps=25, frames=FRAMES):
  video = np.zeros((frames, SIZE, SIZE, 3), np.uint8)
  video[:, :16] = np.linspace(0, 255, frames).astype(np.uint8)[
      :, None, None, None
  ]
  waveform = np.sin(np.arange(16000 * frames // fps) / 20).astype(np.float32)
  track = media.sound_of(0.3 * waveform) if sound else None
  with media.VideoWriter(path, SIZE, SIZE, fps=fps, sound=track) as file:
    file.write(video)


def manifest(folder, *rows):
  path = folder / 'list.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in rows))
  return cases_lib.open_cases(path)


def test_a_row_is_a_video_with_its_sound_and_first_frame(tmp_path):
  write_video(tmp_path / 'a b.mp4')
  cases = manifest(tmp_path, {'video': 'a b.mp4'})
  case = cases[0]
  assert cases.names == ['a_b'] and len(case.clip.frames) == FRAMES
  np.testing.assert_array_equal(case.image, case.clip.frames[0])
  assert len(case.clip.waveform) == 640 * FRAMES
  assert np.abs(case.clip.waveform).max() > 0.1


def test_image_and_audio_of_their_own_and_csv(tmp_path):
  write_video(tmp_path / 'a.mp4', sound=False)
  soundfile.write(tmp_path / 'a.wav', np.full(32000, 0.25), 16000)
  path = tmp_path / 'list.CSV'
  path.write_text('name,video,audio\nfirst,a.mp4,a.wav\n')
  case = cases_lib.open_cases(path)[0]
  assert case.name == 'first'
  np.testing.assert_allclose(case.clip.waveform[:100], 0.25, atol=1e-3)


@pytest.mark.parametrize('content, message', [
    ('', 'no rows'),
    ('{"video": "a.mp4"', ':1: not JSON'),
    ('[1]', ':1: expected an object'),
    ('{"clip": "a.mp4"}', r"unknown columns \['clip'\]"),
    ('{"image": "a.png"}', 'no video'),
    ('{"video": "x/a.mp4"}\n{"video": "y/a.mp4"}', "such as 'a'"),
])
def test_a_wrong_manifest_is_refused(tmp_path, content, message):
  path = tmp_path / 'list.jsonl'
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    cases_lib.open_cases(path)


def test_a_list_that_is_not_there_or_none(tmp_path):
  (tmp_path / 'bytes.csv').write_bytes(b'video\n\xff.mp4\n')
  with pytest.raises(ValueError, match='bytes.csv: not UTF-8'):
    cases_lib.open_cases(tmp_path / 'bytes.csv')
  with pytest.raises(FileNotFoundError, match='no such manifest'):
    cases_lib.open_cases(tmp_path / 'no.jsonl')
  (tmp_path / 'a.txt').write_text('a.mp4')
  with pytest.raises(ValueError, match='expected a dataset folder or a man'):
    cases_lib.open_cases(tmp_path / 'a.txt')


def still(case):
  return [case.image] * len(case.clip.frames)


def test_unusable_ground_truth_is_listed_and_the_rest_is_scored(tmp_path):
  write_video(tmp_path / 'good.mp4')
  write_video(tmp_path / 'mute.mp4', sound=False)
  data = (tmp_path / 'good.mp4').read_bytes()
  (tmp_path / 'cut.mp4').write_bytes(data[: len(data) // 2])
  (tmp_path / 'empty.mp4').write_bytes(b'')
  soundfile.write(tmp_path / 'long.wav', np.zeros(16000 * 4), 16000)
  cases = manifest(
      tmp_path, {'video': 'mute.mp4'}, {'video': 'cut.mp4'},
      {'video': 'good.mp4'}, {'video': 'empty.mp4'}, {'video': 'gone.mp4'},
      {'video': 'good.mp4', 'audio': 'long.wav', 'name': 'other_length'},
  )
  found = protocol.run({'still': still}, cases, lambda: [pixels.Pixels()])
  reasons = {f['video']: f['reason'] for f in found['gt'].failures}
  assert set(reasons) == {'mute', 'cut', 'empty', 'gone', 'other_length'}
  assert 'no audio' in reasons['mute']
  assert 'empty file' in reasons['empty'] and 'no such file' in reasons['gone']
  assert '4.00 s of sound for 2.00 s of ground truth' in reasons['other_length']
  assert found['still'].figures['videos'] == 1.0


def test_another_rate_is_resampled_with_a_warning(tmp_path, caplog):
  write_video(tmp_path / 'fast.mp4', fps=50, frames=2 * FRAMES)
  cases = manifest(tmp_path, {'video': 'fast.mp4'})
  with caplog.at_level(logging.WARNING, 'absl'):
    assert len(cases[0].clip.frames) == FRAMES
  assert '50.00 frames/s, resampled to 25' in caplog.text
  line, = cases_lib.rate_lines(cases.first(1).rates)
  assert 'to 25 frames/s: 1, such as' in line and 'fast.mp4 of 50.00' in line
  assert cases_lib.rate_lines({}) == []


def test_videos_of_others_are_found_by_name(tmp_path):
  write_video(tmp_path / 'a.mp4')
  cases = manifest(tmp_path, {'video': 'a.mp4'})
  peer = tmp_path / 'peer'
  peer.mkdir()
  assert systems.Folder(peer).missing(cases.names) == {'a'}
  write_video(peer / 'a.mp4', fps=50, frames=2 * FRAMES)
  write_video(peer / 'b.mp4')
  folder = systems.Folder(peer)
  assert folder.others(cases.names) == ['b.mp4']
  frames, truth = systems.fitted(folder(cases[0]), cases[0])
  assert len(frames) == len(truth.frames) == FRAMES
  assert folder.rates == {str(peer / 'a.mp4'): 50.0}


def test_videos_of_others_have_the_file_name_of_ground_truth(tmp_path):
  name, peer = 'a clip (1).mp4', tmp_path / 'peer'
  peer.mkdir()
  write_video(tmp_path / name)
  write_video(peer / name)
  cases = manifest(tmp_path, {'video': name})
  folder = systems.Folder(peer)
  assert not folder.missing(cases.names) and not folder.others(cases.names)
  assert len(list(folder(cases[0]))) == FRAMES
  write_video(peer / 'a_clip_1_.mp4')
  with pytest.raises(ValueError, match='are videos of one case; expected one'):
    systems.Folder(peer)


def test_a_case_may_be_called_like_any_file_of_ours(tmp_path):
  write_video(tmp_path / 'settings.mp4')
  case = manifest(tmp_path, {'video': 'settings.mp4'})[0]
  made = []

  class Model:
    reports = [{'frames': FRAMES}]

    def __call__(self, image, waveform, name):
      made.append(name)
      yield from still(case)

  for _ in range(2):
    kept = systems.Kept(Model(), tmp_path / 'out', (SIZE, SIZE), {'seed': 1})
    assert not made or (tmp_path / 'out/settings.mp4').exists()
    assert len(list(kept(case))) == FRAMES
  assert made == ['settings'] and kept.made == 0
  assert [report['frames'] for report in kept.reports] == [FRAMES]


def test_a_kept_video_is_of_the_portrait_and_speech_that_the_case_has(tmp_path):
  write_video(tmp_path / 'a.mp4')
  write_video(tmp_path / 'b.mp4')
  row = {'video': 'a.mp4'}
  first = manifest(tmp_path, row)

  class Model:
    reports = [{'frames': FRAMES}]

    def __call__(self, image, waveform, name):
      yield from still(first[0])

  kept = systems.Kept(Model(), tmp_path / 'out', (SIZE, SIZE), {'seed': 1})
  kept.make(first[0])
  # More rows, another date, another place: still the video of this one.
  more = manifest(tmp_path, row, {'video': 'b.mp4'})
  os.utime(tmp_path / 'a.mp4', (0, 0))
  for case in (more[0], more[1]):
    kept.make(case)
  assert kept.made == 2
  image = more[0].image
  others = (
      dataclasses.replace(more[0], image=255 - image),
      dataclasses.replace(more[0], image=image.reshape(SIZE // 2, -1, 3)),
      dataclasses.replace(more[0], clip=dataclasses.replace(
          more[0].clip, waveform=more[0].clip.waveform + 0.1)),
  )  # pyformat: disable
  for case in others:
    with pytest.raises(ValueError, match='from another portrait or speech'):
      kept.make(case)
  with pytest.raises(ValueError, match="other values of \\['seed'\\]"):
    systems.Kept(Model(), tmp_path / 'out', (SIZE, SIZE), {'seed': 2})


def test_metrics_are_what_the_protocol_calls():
  parts = {'update', 'figures', 'curves'}
  assert parts <= set(dir(pixels.Pixels)) & set(dir(metric_lib.Metric))
