"""Contact sheets: which frames, and where they lie."""

import io

import numpy as np
from PIL import Image

from asymtalker_jax.inputs import contact_sheet


def frames(*levels):
  return np.asarray(levels, np.uint8)[:, None, None, None] * np.ones(
      (1, 2, 3, 3), np.uint8
  )


def test_rows_run_from_left_to_right_and_short_ones_end_black():
  rows = contact_sheet.wrap(frames(1, 2, 3, 4, 5, 6), 4)
  sheet = contact_sheet.picture(rows)
  assert sheet.shape == (2 * 2, 4 * 3, 3)
  np.testing.assert_array_equal(
      sheet[::2, ::3, 0], [[1, 2, 3, 4], [5, 6, 0, 0]]
  )
  np.testing.assert_array_equal(sheet, sheet[::2, ::3].repeat(2, 0).repeat(3, 1))


def test_smaller_frames_end_in_black():
  large = np.full((1, 3, 4, 3), 9, np.uint8)
  sheet = contact_sheet.picture([frames(1, 2), large])
  assert sheet.shape == (2 * 3, 2 * 4, 3)
  np.testing.assert_array_equal(sheet[:3, :, 0], [
      [1, 1, 1, 0, 2, 2, 2, 0], [1, 1, 1, 0, 2, 2, 2, 0], [0] * 8,
  ])
  np.testing.assert_array_equal(sheet[3:, :4], large[0])


def test_spread_takes_both_ends():
  found = contact_sheet.spread(frames(*range(11)), 3)
  assert found[:, 0, 0, 0].tolist() == [0, 5, 10]
  assert len(contact_sheet.spread(frames(1, 2), 8)) == 2


def test_png_keeps_every_pixel():
  sheet = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
  found = np.asarray(Image.open(io.BytesIO(contact_sheet.png(sheet))))
  np.testing.assert_array_equal(found, sheet)
