"""The fixed square of a clip around its face, or why the clip is not used.

The square is that of a portrait (`generate.portrait.crop_box`) around the
median of the faces found in a clip, so that training sees faces as the model is
given them later.
"""

from collections.abc import Sequence

import numpy as np

from asymtalker_jax.evals import faces as face_track
from asymtalker_jax.generate import portrait

NEARLY_ALL = 0.9  # of the frames that were looked at
# A crop of fewer pixels, as a share of the side of the clip, would be a blur.
MIN_SCALE = 0.5

Square = tuple[int, int, int]  # left, top, side in pixels
Box = tuple[int, int, int, int]  # top, left, height, width in pixels


class Unusable(Exception):
  """A clip that is dropped; the message is the reason, a few words."""


def face_crop(seen: Sequence[Sequence[Square]], picture: tuple[int, int],
              size: int) -> Box:
  """What to cut out of every frame of a clip.

  Args:
    seen: the faces of each frame that was looked at, largest first.
    picture: height and width of the frames in pixels.
    size: side of the clip in pixels.

  Raises:
    Unusable: no face, several, one that moves out of the crop, or a small one.
  """
  count = len(seen)
  squares = np.array([found[0] for found in seen if found])
  if len(squares) < NEARLY_ALL * count:
    raise Unusable('no face')
  if sum(map(_is_crowd, seen)) > face_track.OTHERS_SHARE * count:
    raise Unusable('several faces')
  side = float(np.median(squares[:, 2]))
  centre = np.median(squares[:, :2] + squares[:, 2:] / 2, axis=0)
  left, top = centre - side / 2
  box = portrait.crop_box(picture, (left, top, side))
  if sum(_is_inside(s, box) for s in squares) < NEARLY_ALL * len(squares):
    raise Unusable('face leaves the crop')
  if box[2] < MIN_SCALE * size:
    raise Unusable('face too small')
  return box


def _is_crowd(found: Sequence[Square]) -> bool:
  """Whether a second face is not much smaller than the largest."""
  return len(found) > 1 and (
      found[1][2] >= face_track.SECOND_FACE * found[0][2])


def _is_inside(square: Square, box: Box) -> bool:
  left, top, side = square
  box_top, box_left, height, width = box
  return (box_left <= left and left + side <= box_left + width
          and box_top <= top and top + side <= box_top + height)
