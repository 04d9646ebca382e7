"""Video files in, upright RGB at a constant rate out."""

import fractions
import struct

import av
import numpy as np
import pytest

from asymtalker_jax.inputs import video
from tests import shared_media

SIZE = 64


def grey(value):
  return np.full((SIZE, SIZE, 3), value, np.uint8)


def write(path, times, values, base=1000, rate=50, aspect=1):
  """A video with frames at the given times in seconds."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=rate, options={'crf': '5'})
    stream.codec_context.max_b_frames = 3
    stream.width = stream.height = SIZE
    stream.pix_fmt = 'yuv420p'
    stream.codec_context.sample_aspect_ratio = aspect
    stream.codec_context.time_base = fractions.Fraction(1, base)
    for time, value in zip(times, values):
      frame = av.VideoFrame.from_ndarray(grey(value), 'rgb24')
      frame.pts = round(time * base)
      frame.time_base = fractions.Fraction(1, base)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def levels(frames):
  return frames.mean((1, 2, 3)).round().astype(int)


def test_25_fps_passes_frame_by_frame(tmp_path):
  values = np.arange(20, 220, 8)
  path = write(tmp_path / 'x.mp4', np.arange(25) / 25, values)
  frames = video.read_frames(path)
  assert frames.dtype == np.uint8 and frames.shape == (25, SIZE, SIZE, 3)
  assert np.abs(levels(frames) - values).max() <= 2


def test_50_fps_keeps_every_second_frame(tmp_path):
  values = np.arange(20, 220, 4)
  path = write(tmp_path / 'x.mp4', np.arange(50) / 50, values)
  assert np.abs(levels(video.read_frames(path)) - values[::2]).max() <= 2


def test_variable_rate_takes_the_nearest_frame_in_time(tmp_path):
  path = write(tmp_path / 'x.mp4', [0.0, 0.1, 0.9, 1.0], [40, 80, 160, 240])
  found = levels(video.read_frames(path))
  middle = [40, 40, *[80] * 10, *[160] * 11]  # changes at 0.05, 0.5 and 0.95
  # 0.5 s lies midway between two frames, 0.96 s is nearest to the last one.
  assert np.abs(found[:12] - middle[:12]).max() <= 2
  assert np.abs(found[13:24] - 160).max() <= 2
  assert abs(found[24] - 240) <= 2


def test_frames_that_wait_for_others_come_in_order_out_of_an_avi(tmp_path):
  values = np.arange(20, 220, 4)
  path = write(
      tmp_path / 'x.avi', np.arange(50) / 25, values, base=25, rate=25
  )
  with av.open(str(path)) as container:
    stamps = [frame.pts for frame in container.decode(video=0)]
  assert stamps != sorted(stamps)  # Or this tests nothing.
  assert np.abs(levels(video.read_frames(path)) - values).max() <= 2


@pytest.mark.parametrize('name', ['x.mkv', 'x.avi'])
def test_a_truncated_file_whose_streams_have_no_length(tmp_path, name):
  noise = np.random.default_rng(0).integers(20, 220, 100)
  path = write(tmp_path / name, np.arange(100) / 25, noise, base=25, rate=25)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match='truncated after'):
    video.read_frames(path)


def test_pixels_too_wide_to_be_shown(tmp_path, monkeypatch):
  path = write(tmp_path / 'x.mkv', [0.0], [99], aspect=3)
  assert video.read_frames(path).shape[1:] == (SIZE, 3 * SIZE, 3)
  monkeypatch.setattr(video, 'MAX_SIDE', 2 * SIZE)
  with pytest.raises(ValueError, match='192x64 pixels; expected at most 128'):
    video.read_frames(path)


# Matrix a, b, c, d -> corner of the picture where its top left is shown.
@pytest.mark.parametrize('matrix, shape, corner', [
    ((1, 0, 0, 1), (64, 96), (0, 0)),
    ((-1, 0, 0, 1), (64, 96), (0, -1)),  # A front camera.
    ((1, 0, 0, -1), (64, 96), (-1, 0)),
    ((-1, 0, 0, -1), (64, 96), (-1, -1)),
    ((0, 1, -1, 0), (96, 64), (0, -1)),
    ((0, -1, 1, 0), (96, 64), (-1, 0)),
    ((0, 1, 1, 0), (96, 64), (0, 0)),
    ((0, -1, -1, 0), (96, 64), (-1, -1)),
])
def test_the_display_matrix_is_applied(tmp_path, matrix, shape, corner):
  path = tmp_path / 'x.mp4'
  picture = np.zeros((64, 96, 3), np.uint8)
  picture[:32, :48] = 255
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('libx264', rate=25)
    stream.width, stream.height = 96, 64
    frame = av.VideoFrame.from_ndarray(picture, 'rgb24')
    container.mux([*stream.encode(frame), *stream.encode(None)])
  data = bytearray(path.read_bytes())
  at = data.index(b'tkhd') + 44
  a, b, c, d = (65536 * number for number in matrix)
  data[at : at + 20] = struct.pack('>5i', a, b, 0, c, d)
  path.write_bytes(data)
  frame, = video.read_frames(path)
  assert frame.shape == (*shape, 3)
  lit = frame[[8, -8]][:, [8, -8]].mean(-1) > 128
  expected = np.zeros((2, 2), bool)
  expected[corner] = True
  np.testing.assert_array_equal(lit, expected)


def test_too_long_a_video(tmp_path):
  path = write(tmp_path / 'x.mp4', np.arange(25) / 25, [99] * 25)
  with pytest.raises(ValueError, match='more than 10 frames'):
    video.read_frames(path, max_frames=10)


def test_header(tmp_path):
  info = video.probe(write(tmp_path / 'x.mp4', np.arange(25) / 25, [9] * 25))
  assert (info.width, info.height, info.has_audio) == (SIZE, SIZE, False)
  assert info.duration_s == pytest.approx(1.0, abs=0.05)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    video.read_frames(tmp_path / 'nothing.mp4')


@pytest.mark.parametrize(
    'name, word',
    [
        ('made_zero_bytes', 'empty'),
        ('made_truncated_no_moov', 'not a readable media file'),
        ('made_truncated_faststart', 'truncated after 3.07 s of 6.63 s'),
        ('made_audio_only', 'no video in this file'),
    ],
)
def test_unusable_files(name, word):
  with pytest.raises(ValueError, match=word) as error:
    video.read_frames(shared_media.path(f'raw/{name}.mp4'))
  assert '\n' not in str(error.value)


def test_a_codec_that_does_not_exist(tmp_path):
  path = write(tmp_path / 'x.mp4', np.arange(25) / 25, [9] * 25)
  data = path.read_bytes()
  assert data.count(b'avc1') == 2  # As a brand of the file, and of the stream.
  path.write_bytes(data.replace(b'avc1', b'zzzz'))
  for read in (video.probe, video.read_frames):
    with pytest.raises(ValueError, match='unknown or damaged codec'):
      read(path)


def test_rotation_metadata_is_applied():
  path = shared_media.path('raw/made_rotate_metadata_768x432.mp4')
  frames = video.read_frames(path)
  assert frames.shape == (100, 768, 432, 3)
  # Upright, the white shirt lies above the dark shorts.
  assert frames[0, 360:440, 180:280].mean() > 150
  assert frames[0, 570:610, 140:240].mean() < 100


@pytest.mark.parametrize(
    'name, count',
    [
        ('vretalk_1_orig_vfr_700x700', 153),
        ('made_scene_cuts_3people_30fps', 188),
        ('hdtf_wda_alexandriaocasiocortez_orig_mpeg4_16kstereo', 200),
        ('made_short_0p6s', 15),
    ],
)
def test_real_files_last_as_long_at_25_fps(name, count):
  path = shared_media.path(f'raw/{name}.mp4')
  assert sum(1 for _ in video.stream_frames(path)) == count
