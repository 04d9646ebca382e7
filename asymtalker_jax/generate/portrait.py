"""One portrait image, upright, on a plain background, cropped to the face.

The crop follows FlashHead (utils/facecrop.py): a square with a side
of twice the face width, 55 % of it above the centre of the face. Pictures in
which that square is nearly the whole picture are already framed and are left
as they are.
"""

import functools
import os
import warnings

from absl import logging
import cv2
import numpy as np
from PIL import Image
from PIL import ImageOps

FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'TIFF', 'AVIF')
MIN_SIDE = 16  # pixels
MAX_PIXELS = 80_000_000
BACKGROUND = (128, 128, 128)  # behind transparent pixels
FACE_WIDTHS = 2.0  # side of the crop
ABOVE_FACE = 0.55  # share of the crop above the centre of the face
# A wanted crop of at least this share of the largest square changes nothing.
FRAMED = 0.75
_DETECT_SIDE = 640  # pixels; larger pictures are scaled down for the detector
_MIN_FACE = 0.12  # of the shorter side
SECOND_FACE = 0.5  # of the side of the largest: smaller ones do not count


def load_portrait(
    path: str | os.PathLike, height: int, width: int
) -> np.ndarray:
  """Portrait as the network sees it.

  EXIF rotation is applied, transparency is laid over grey; palette, greyscale,
  16-bit and float pictures become RGB. Warns where no face or several are
  found, or where the picture is smaller than the output.

  Args:
    path: image file, one of FORMATS.
    height: pixels of the result.
    width: pixels of the result.

  Returns:
    [height, width, 3] float32 in [-1, 1].

  Raises:
    FileNotFoundError: no such file.
    ValueError: not an image, damaged, a side below MIN_SIDE or more than
      MAX_PIXELS pixels (checked before decoding).
  """
  rgb = _open_rgb(os.fspath(path))
  found = find_faces(rgb)
  face = found[0][1] if found else None
  people = sum(sure and box[2] >= SECOND_FACE * face[2] for sure, box in found)
  if people > 1:
    logging.warning(
        '%s: %d faces found, using the largest; expected a portrait of one'
        ' person', path, people,
    )
  if face is None:
    logging.warning(
        '%s: no face found, using the centre of the picture; expected a'
        ' frontal portrait',
        path,
    )
  box = crop_box(rgb.shape[:2], face, width / height)
  _, _, crop_height, crop_width = box
  if crop_height < height or crop_width < width:
    logging.warning(
        '%s: %dx%d pixels around the face are enlarged to %dx%d; the video will'
        ' be soft',
        path, crop_width, crop_height, width, height,
    )
  return cut_out(rgb, box, height, width).astype(np.float32) / 127.5 - 1.0


def cut_out(
    rgb: np.ndarray, box: tuple[int, int, int, int], height: int, width: int
) -> np.ndarray:
  """[height, width, 3] uint8 of the box (top, left, height, width)."""
  top, left, crop_height, crop_width = box
  image = Image.fromarray(
      rgb[top : top + crop_height, left : left + crop_width]
  ).resize((width, height), Image.Resampling.LANCZOS)
  return np.asarray(image)


def crop_box(
    size: tuple[int, int],
    face: tuple[int, int, int] | None,
    aspect: float = 1.0,
) -> tuple[int, int, int, int]:
  """The part of a picture to keep.

  Args:
    size: (height, width) of the picture.
    face: (left, top, side) of the face, or None for a centre crop.
    aspect: width / height of the crop.

  Returns:
    (top, left, height, width), inside the picture.
  """
  height, width = size
  largest = min(height, width / aspect)
  if face is None:
    crop, centre_y, centre_x = largest, height / 2, width / 2
  else:
    left, top, side = face
    wanted = min(FACE_WIDTHS * side / min(aspect, 1.0), largest)
    crop = largest if wanted >= FRAMED * largest else wanted
    centre_x = left + side / 2
    centre_y = top + side / 2 + (0.5 - ABOVE_FACE) * crop
  crop_height, crop_width = round(crop), round(crop * aspect)
  top = round(centre_y - crop_height / 2)
  left = round(centre_x - crop_width / 2)
  return (
      min(max(top, 0), height - crop_height),
      min(max(left, 0), width - crop_width),
      crop_height,
      crop_width,
  )


def find_faces(
    rgb: np.ndarray,
) -> list[tuple[bool, tuple[int, int, int]]]:
  """What two Haar cascades, which come inside OpenCV's wheel, take for a face.

  Args:
    rgb: [H, W, 3] uint8.

  Returns:
    (whether both see it, square (left, top, side)), most prominent first: what
    both see, then by size. What both see is there once per face; the others may
    be the same face again.
  """
  scale = min(1.0, _DETECT_SIDE / max(rgb.shape[:2]))
  grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
  if scale < 1.0:
    grey = cv2.resize(
        grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
  smallest = max(20, round(_MIN_FACE * min(grey.shape)))
  first, second = (
      [tuple(box) for box in cascade.detectMultiScale(
          grey, 1.1, 3, minSize=(smallest, smallest)
      )]
      for cascade in _cascades()
  )
  found = [
      (any(_overlap(box, other) > 0.3 for other in second), box)
      for box in first
  ] + [(False, box) for box in second]
  found.sort(key=lambda face: (face[0], face[1][2], face[1]), reverse=True)
  return [
      (sure, tuple(round(float(value) / scale) for value in box[:3]))
      for sure, box in found
  ]


def _open_rgb(path: str) -> np.ndarray:
  """Decoded [H, W, 3] uint8; every way to fail is one ValueError."""
  if not os.path.exists(path):
    raise FileNotFoundError(f'{path}: no such file')
  if not os.path.isfile(path):
    raise ValueError(f'{path}: not a file')
  Image.init()  # Loads the readers, so that FORMATS can be looked up.
  readable = [name for name in FORMATS if name in Image.OPEN]
  try:
    with warnings.catch_warnings():
      # Pillow warns about large pictures; the limit here is ours, below.
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      with Image.open(path, formats=readable) as image:
        _check_size(path, *image.size)
        return _flatten(path, ImageOps.exif_transpose(image))
  except Image.DecompressionBombError as error:
    raise ValueError(
        f'{path}: too many pixels ({error}); expected at most {MAX_PIXELS:,}'
    ) from error
  except Image.UnidentifiedImageError as error:
    raise ValueError(
        f'{path}: not an image; expected one of {", ".join(readable)}'
    ) from error
  except (
      OSError, SyntaxError, EOFError, RuntimeError, ValueError
  ) as error:  # pyformat: disable
    # Pillow reports damaged data by all of these.
    if str(error).startswith(path):  # Of our own checks.
      raise
    raise ValueError(f'{path}: damaged or truncated image ({error})') from error


def _check_size(path: str, width: int, height: int) -> None:
  if min(width, height) < MIN_SIDE:
    raise ValueError(
        f'{path}: {width}x{height} pixels; expected at least'
        f' {MIN_SIDE}x{MIN_SIDE}'
    )
  if width * height > MAX_PIXELS:
    raise ValueError(
        f'{path}: {width}x{height} pixels; expected at most {MAX_PIXELS:,} in'
        ' all'
    )


def _flatten(path: str, image: Image.Image) -> np.ndarray:
  """[H, W, 3] uint8 of any mode, transparency over BACKGROUND."""
  if image.mode[0] in 'IF':  # 16-bit or float, which convert() would clip
    grey = np.asarray(image).astype(np.float64)
    if not np.isfinite(grey).all():
      raise ValueError(f'{path}: NaN or infinite pixels; expected finite ones')
    white = 65535.0 if grey.max() > 255 else 255.0
    if image.mode == 'F' and grey.max() <= 1:
      white = 1.0
    grey = (grey / white * 255).round()
    image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
  if image.has_transparency_data:
    rgba = image.convert('RGBA')
    plain = Image.new('RGBA', rgba.size, BACKGROUND + (255,))
    image = Image.alpha_composite(plain, rgba)
  return np.asarray(image.convert('RGB'))


@functools.cache
def _cascades() -> tuple[cv2.CascadeClassifier, ...]:
  return tuple(
      cv2.CascadeClassifier(
          f'{cv2.data.haarcascades}haarcascade_frontalface_{name}.xml'
      )
      for name in ('default', 'alt2')
  )


def _overlap(a: tuple, b: tuple) -> float:
  """Intersection over union of two boxes (left, top, width, height)."""
  across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
  down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
  shared = max(0, across) * max(0, down)
  return shared / (a[2] * a[3] + b[2] * b[3] - shared)
