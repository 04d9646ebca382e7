"""MP4 writing: sync, colours, and never a broken file under the asked name."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from asymtalker_jax.generate import media
from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import video

SIZE = 64
ROOT = pathlib.Path(__file__).parents[2]


def frames(count, value=128):
  return np.full((count, SIZE, SIZE, 3), value, np.uint8)


def click(seconds=4.0, at=2.0):
  """Silence with 40 ms of a 1 kHz tone."""
  waveform = np.zeros(round(16000 * seconds), np.float32)
  start = round(16000 * at)
  waveform[start : start + 640] = 0.8 * np.sin(np.arange(640) * np.pi / 8)
  return waveform


def blocks(waveform, rate, channels):
  """The 16 kHz waveform at another rate, for rates that are multiples."""
  samples = np.repeat(waveform, rate // 16000)[:, None]
  samples = np.repeat(samples, channels, 1)
  pieces = (samples[i : i + 5000] for i in range(0, len(samples), 5000))
  return audio.Blocks(sample_rate_hz=rate, channels=channels, blocks=pieces)


@pytest.mark.parametrize(
    'rate, channels', [(16000, 1), (48000, 2), (96000, 1), (48000, 6)]
)
def test_flash_and_click_stay_together(tmp_path, rate, channels):
  path = tmp_path / 'x.mp4'
  picture = np.concatenate([frames(50, 0), frames(50, 255)])
  sound = blocks(click(), rate, channels)
  with media.VideoWriter(path, SIZE, SIZE, sound=sound) as writer:
    for start in range(0, 100, 28):
      writer.write(picture[start : start + 28])
  seen = video.read_frames(path).mean((1, 2, 3))
  heard = audio.read_recording(path)
  assert len(seen) == 100
  assert np.argmax(seen > 128) == 50
  assert heard.seconds == 4.0
  onset = np.argmax(np.abs(heard.waveform) > 0.1) / 16000
  assert onset == pytest.approx(2.0, abs=0.005)


def test_colours_survive(tmp_path):
  path = tmp_path / 'x.mp4'
  colours = [(200, 80, 40), (30, 160, 90), (250, 250, 250), (5, 5, 5)]
  picture = np.zeros((4, SIZE, SIZE, 3), np.uint8)
  picture[:] = np.asarray(colours)[:, None, None]
  with media.VideoWriter(path, SIZE, SIZE) as writer:
    writer.write(picture)
  found = video.read_frames(path).mean((1, 2))
  np.testing.assert_allclose(found, colours, atol=4)


def test_index_is_at_the_front(tmp_path):
  path = tmp_path / 'x.mp4'
  sound = media.sound_of(click(1.0, 0.5))
  with media.VideoWriter(path, SIZE, SIZE, sound=sound) as writer:
    writer.write(frames(25))
  content = path.read_bytes()
  assert 0 < content.index(b'moov') < content.index(b'mdat')


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError, SystemExit])
@pytest.mark.parametrize('wrap', [media.BackgroundWriter, lambda w: w])
def test_interrupted_writing_keeps_the_older_file(tmp_path, error, wrap):
  path = tmp_path / 'x.mp4'
  path.write_bytes(b'older')
  with pytest.raises(error):
    with wrap(media.VideoWriter(path, SIZE, SIZE)) as writer:
      writer.write(frames(40))
      raise error
  assert path.read_bytes() == b'older'
  assert list(tmp_path.iterdir()) == [path]


def test_background_writer_writes_everything_in_order(tmp_path):
  path = tmp_path / 'x.mp4'
  with media.BackgroundWriter(media.VideoWriter(path, SIZE, SIZE)) as writer:
    for value in range(20, 220, 20):
      writer.write(frames(4, value))
  found = video.read_frames(path).mean((1, 2, 3))
  wanted = np.repeat(np.arange(20, 220, 20), 4)
  assert np.abs(found - wanted).max() < 4


def test_background_writer_passes_errors_on(tmp_path):
  with pytest.raises(ValueError, match='expected'):
    with media.BackgroundWriter(
        media.VideoWriter(tmp_path / 'x.mp4', SIZE, SIZE)
    ) as writer:
      writer.write(frames(3)[:, :10])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'name, word', [('x.avi', 'ends in .mp4'), ('folder.mp4', 'is a folder')]
)
def test_names_that_cannot_be_a_video(tmp_path, name, word):
  (tmp_path / 'folder.mp4').mkdir()
  with pytest.raises(ValueError, match=word):
    media.VideoWriter(tmp_path / name, SIZE, SIZE)


def test_folder_that_is_not_there(tmp_path):
  path = tmp_path / 'nothing' / 'x.mp4'
  with pytest.raises(OSError, match='cannot be written') as error:
    with media.VideoWriter(path, SIZE, SIZE):
      pass
  assert str(path) in str(error.value)


def test_background_writer_passes_every_kind_of_error_on(tmp_path, monkeypatch):
  def fail(*_):
    raise MemoryError('no frame')
  monkeypatch.setattr(media.VideoWriter, 'write', fail)
  with pytest.raises(MemoryError, match='no frame'):
    with media.BackgroundWriter(
        media.VideoWriter(tmp_path / 'x.mp4', SIZE, SIZE)
    ) as writer:
      for _ in range(10):  # More than the queue holds.
        writer.write(frames(1))
  assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, sys
import numpy as np
from asymtalker_jax.generate import media
resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))
noise = np.random.default_rng(0).integers(0, 256, (200, 64, 64, 3), np.uint8)
try:
  with media.VideoWriter(sys.argv[1], 64, 64) as writer:
    for start in range(0, 200, 28):
      writer.write(noise[start : start + 28])
except OSError as error:
  print(error)
"""


def test_no_space_left_is_one_line_and_leaves_nothing(tmp_path):
  path = tmp_path / 'x.mp4'
  done = subprocess.run(
      [sys.executable, '-c', FULL_DISK, str(path)],
      capture_output=True, text=True, cwd=ROOT, check=True,
  )
  assert done.stdout.startswith(f'{path}: cannot be written (')
  assert done.stdout.count('\n') == 1
  assert not list(tmp_path.iterdir())
