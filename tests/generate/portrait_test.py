"""Portraits of every kind, and one line for what is not one."""

import logging
import struct
import zlib

import numpy as np
from PIL import Image
import pytest

from asymtalker_jax.generate import portrait
from tests import shared_media


def gradient(height=64, width=64):
  """Red grows downwards, green to the right."""
  down = np.linspace(0, 255, height)[:, None]
  right = np.linspace(0, 255, width)[None]
  return np.stack(
      np.broadcast_arrays(down, right, np.full((1, 1), 60.0)), -1
  ).astype(np.uint8)


def save(folder, image, name='x.png', **options):
  path = folder / name
  image.save(path, **options)
  return path


def load(path, size=64):
  return portrait.load_portrait(path, size, size)


@pytest.mark.parametrize('error', [
    RuntimeError('Not implemented'), ValueError('Invalid Exif payload'),
])
def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch, error):
  path = save(tmp_path, Image.fromarray(gradient()))

  def fail(image):
    raise error

  monkeypatch.setattr(portrait.ImageOps, 'exif_transpose', fail)
  with pytest.raises(ValueError, match=f'x.png: damaged .*{error}'):
    load(path)


def test_pixels_arrive_in_minus_one_to_one(tmp_path):
  found = load(save(tmp_path, Image.fromarray(gradient())))
  assert found.shape == (64, 64, 3) and found.dtype == np.float32
  np.testing.assert_allclose(found, gradient() / 127.5 - 1.0, atol=1e-6)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation(tmp_path, orientation):
  upright = Image.fromarray(gradient())
  turn = Image.Transpose
  inverse = {
      1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180,
      4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_90,
      7: turn.TRANSVERSE, 8: turn.ROTATE_270,
  }[orientation]
  stored = upright if inverse is None else upright.transpose(inverse)
  exif = Image.Exif()
  exif[0x0112] = orientation
  found = load(save(tmp_path, stored, exif=exif))
  np.testing.assert_allclose(found, gradient() / 127.5 - 1.0, atol=1e-6)


def test_transparency_lies_over_grey(tmp_path):
  rgba = np.zeros((64, 64, 4), np.uint8)
  rgba[:, :32] = (255, 0, 0, 255)
  found = load(save(tmp_path, Image.fromarray(rgba)))
  np.testing.assert_allclose(found[:, 0], [[1, -1, -1]] * 64)
  np.testing.assert_allclose(found[:, -1], 128 / 127.5 - 1.0, atol=1e-6)


def test_transparent_palette_lies_over_grey(tmp_path):
  image = Image.new('P', (64, 64), 1)
  image.putpalette([255, 0, 0, 0, 255, 0])
  found = load(save(tmp_path, image, transparency=1))
  np.testing.assert_allclose(found, 128 / 127.5 - 1.0, atol=1e-6)


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'CMYK', '1', 'RGBA'])
def test_modes(tmp_path, mode):
  image = Image.fromarray(gradient()).convert(mode)
  name = 'x.jpg' if mode == 'CMYK' else 'x.png'
  found = load(save(tmp_path, image, name))
  wanted = np.asarray(image.convert('RGB')) / 127.5 - 1.0
  assert np.abs(found - wanted).mean() < 0.02


def test_16_bit_grey_keeps_its_range(tmp_path):
  ramp = np.linspace(0, 65535, 64).astype(np.uint16)
  found = load(save(tmp_path, Image.fromarray(np.tile(ramp, (64, 1)))))
  np.testing.assert_allclose(found[0, [0, -1], 0], [-1, 1], atol=0.01)


@pytest.mark.parametrize('size', [(1, 1), (5, 400), (400, 5)])
def test_too_small(tmp_path, size):
  path = save(tmp_path, Image.new('RGB', size))
  with pytest.raises(ValueError, match='at least 16x16'):
    load(path)


@pytest.mark.parametrize('side', [9500, 20000])
def test_too_large_is_refused_before_decoding(tmp_path, side):
  def chunk(kind, data):
    checked = kind + data
    head = struct.pack('>I', len(data))
    return head + checked + struct.pack('>I', zlib.crc32(checked))
  header = struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)
  path = tmp_path / 'x.png'  # Without any pixels: decoding would fail.
  path.write_bytes(
      b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', b'')
  )
  with pytest.raises(ValueError, match='at most 80,000,000') as error:
    load(path)
  assert '\n' not in str(error.value)


def test_missing_empty_and_other_files(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    load(tmp_path / 'nothing.png')
  for content in (b'', b'%PDF-1.4 hello', b'RIFF....WAVEfmt '):
    path = tmp_path / 'x.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='not an image; expected one of PNG'):
      load(path)
  with pytest.raises(ValueError, match='not a file'):
    load(tmp_path)


@pytest.mark.parametrize('name', ['x.png', 'x.jpg', 'x.webp', 'x.bmp'])
def test_truncated(tmp_path, name):
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
  path = save(tmp_path, Image.fromarray(noise), name)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match='x.'):
    load(path)


def test_without_a_face_the_centre_is_kept_with_a_warning(tmp_path, caplog):
  caplog.set_level(logging.WARNING, 'absl')
  found = load(save(tmp_path, Image.fromarray(gradient(64, 128))))
  assert 'no face found' in caplog.text
  np.testing.assert_allclose(
      found, gradient(64, 128)[:, 32:96] / 127.5 - 1.0, atol=1e-6
  )


def test_small_pictures_are_enlarged_with_a_warning(tmp_path, caplog):
  caplog.set_level(logging.WARNING, 'absl')
  assert load(save(tmp_path, Image.new('RGB', (20, 20)))).shape == (64, 64, 3)
  assert 'enlarged' in caplog.text


def test_crop_is_twice_the_face_with_55_percent_above_its_centre():
  top, left, height, width = portrait.crop_box((1000, 1000), (400, 500, 100))
  assert (height, width) == (200, 200)
  assert left + width / 2 == 450
  assert 550 - top == pytest.approx(0.55 * height, abs=1)


def test_crop_stays_inside_the_picture():
  assert portrait.crop_box((400, 600), (0, 0, 100)) == (0, 0, 200, 200)
  assert portrait.crop_box((400, 600), (500, 300, 100)) == (200, 400, 200, 200)


def test_a_framed_portrait_is_left_alone():
  assert portrait.crop_box((512, 512), (150, 100, 200)) == (0, 0, 512, 512)
  assert portrait.crop_box((512, 512), None) == (0, 0, 512, 512)


FACES = {
    # Centre (x, y) and width of the face, judged by eye, as shares of the side.
    'photo_woman_frontal.png': (0.51, 0.50, 0.45),
    'photo_man_scared.png': (0.50, 0.56, 0.36),
    'greyscale_woman.png': (0.49, 0.56, 0.58),
    'cartoon3d_boy.jpg': (0.50, 0.53, 0.58),
    'exif_rotated_woman.jpg': (0.49, 0.45, 0.37),
    'painting_pearl_earring.jpg': (0.48, 0.58, 0.37),
    'alpha_cutout_man.png': (0.50, 0.50, 0.40),
    'profile_woman_makeup.jpg': (0.30, 0.55, 0.45),
}


@pytest.mark.parametrize('name', FACES)
def test_real_faces_are_found(name):
  rgb = portrait._open_rgb(shared_media.path(f'portraits/{name}'))
  x, y, width = np.asarray(FACES[name]) * rgb.shape[1]
  left, top, side = portrait.find_faces(rgb)[0][1]
  assert abs(left + side / 2 - x) < 0.25 * width
  assert abs(top + side / 2 - y) < 0.25 * width
  assert 0.7 < side / width < 1.4


def test_a_cat_has_no_face():
  rgb = portrait._open_rgb(shared_media.path('portraits/negative_cat.jpg'))
  assert portrait.find_faces(rgb) == []


def test_several_faces_are_warned_of_and_small_ones_are_not(
    tmp_path, caplog, monkeypatch
):
  path = save(tmp_path, Image.fromarray(gradient()))
  for others, warned in (
      ([(True, (0, 0, 20))], True),
      ([(True, (0, 0, 19)), (False, (0, 0, 39))], False),
  ):
    found = [(True, (10, 10, 40)), *others]
    monkeypatch.setattr(portrait, 'find_faces', lambda rgb: found)
    caplog.clear()
    with caplog.at_level(logging.WARNING, 'absl'):
      load(path)
    assert ('2 faces found' in caplog.text) == warned


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_float_pictures_that_are_not_finite_are_refused(tmp_path, bad):
  grey = np.full((64, 64), 0.5, np.float32)
  grey[3, 5] = bad
  path = save(tmp_path, Image.fromarray(grey), 'x.tiff')
  with pytest.raises(ValueError, match='x.tiff: NaN or infinite pixels'):
    load(path)


@pytest.mark.parametrize('white', [1.0, 255.0, 65535.0])
def test_float_pictures_keep_their_brightness(tmp_path, white):
  grey = np.linspace(0, white, 64 * 64, dtype=np.float32).reshape(64, 64)
  found = load(save(tmp_path, Image.fromarray(grey), 'x.tiff'))
  expected = 2.0 * grey / white - 1.0
  np.testing.assert_allclose(found[..., 0], expected, atol=1.01 / 127.5)
