"""One face per video: tracks, gaps, other people, crops."""

import numpy as np
import pytest

from asymtalker_jax.evals import faces

FRAMES = [np.full((120, 160, 3), index, np.uint8) for index in range(60)]


def row(left, top=20.0, side=40.0):
  """A detection with its five points inside the box."""
  points = np.float64([
      [0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8],
  ]) * side + [left, top]  # pyformat: disable
  return np.array([left, top, side, side, *points.ravel(), 0.9])


def detector(rows_of):
  """Detects what `rows_of(index)` lists; frames carry their index."""
  def detect(frame):
    rows = rows_of(int(frame[0, 0, 0]))
    return np.stack(rows) if rows else np.zeros((0, 15))

  return detect


def test_a_short_gap_is_bridged_along_a_straight_line():
  moving = lambda i: [] if 20 <= i < 30 else [row(10.0 + i)]
  found = faces.track(FRAMES, detector(moving))
  assert found.boxes.shape == (60, 4) and found.points.shape == (60, 5, 2)
  np.testing.assert_allclose(found.boxes[:, 0], 10.0 + np.arange(60))
  np.testing.assert_allclose(
      found.points[25], row(35.0)[4:14].reshape(5, 2)
  )


def test_the_track_stays_with_its_person():
  # A larger face passes by in a few frames.
  crowd = lambda i: [row(20.0)] + ([row(100.0, side=50.0)] if i in (30, 31)
                                   else [])  # pyformat: disable
  found = faces.track(FRAMES, detector(crowd))
  np.testing.assert_allclose(found.boxes[:, 0], 20.0)


def test_small_faces_in_the_background_do_not_count():
  found = faces.track(
      FRAMES, detector(lambda i: [row(20.0), row(120.0, side=15.0)])
  )
  np.testing.assert_allclose(found.boxes[:, 2], 40.0)


@pytest.mark.parametrize('rows_of, message', [
    (lambda i: [], 'no face in 60 frames'),
    (lambda i: [row(20.0)] if i < 30 else [], 'no face for 30 frames from'
     ' frame 30 on'),
    (lambda i: [row(20.0)] if i >= 27 else [], 'no face for 27 frames from'
     ' frame 0 on'),
    (lambda i: [row(20.0), row(100.0)], 'several faces in 60 of 60 frames'),
])
def test_videos_without_one_person_are_refused(rows_of, message):
  with pytest.raises(ValueError, match=message):
    faces.track(FRAMES, detector(rows_of))


def test_sync_crops_follow_the_face_and_fill_what_is_outside():
  found = faces.track(FRAMES, detector(lambda i: [row(0.0, top=0.0)]))
  crops = faces.sync_crops(FRAMES, found)
  assert crops.shape == (60, 224, 224, 3) and crops.dtype == np.uint8
  # The margin left of the face lies outside the picture: grey.
  assert crops[3, 100, 2, 0] == 110 and crops[3, 100, 112, 0] == 3


def test_arc_crop_puts_the_points_onto_the_template():
  # The template itself, twice as large and moved: its content comes back.
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (14, 14, 3)).astype(np.uint8)
  face = np.kron(small, np.ones((8, 8, 1), np.uint8))
  frame = np.zeros((300, 300, 3), np.uint8)
  frame[30:254, 40:264] = np.kron(face, np.ones((2, 2, 1), np.uint8))
  points = 2 * faces._ARC_POINTS + [40, 30]
  crop = faces.arc_crop(frame, points)
  centres = slice(4, None, 8)
  error = np.abs(crop[centres, centres].astype(int) - small)
  assert error.max() <= 2


def test_the_map_to_the_template_is_the_nearest_in_least_squares():
  rng = np.random.default_rng(0)
  points = 1.7 * faces._ARC_POINTS @ np.array([[0.9, 0.4], [-0.4, 0.9]])
  points = points + [40, 30] + rng.normal(0, 4, (5, 2))
  x, y = points.T
  one, none = np.ones(5), np.zeros(5)
  # x' = a x - b y + c and y' = b x + a y + d as one linear system.
  rows = np.concatenate([
      np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1),
  ])
  wanted = np.concatenate(faces._ARC_POINTS.T.astype(float))
  a, b, c, d = np.linalg.lstsq(rows, wanted, rcond=None)[0]
  np.testing.assert_allclose(
      faces._similarity(points), [[a, -b, c], [b, a, d]], atol=1e-6
  )


def test_points_in_one_place_are_refused():
  with pytest.raises(ValueError, match='five that are apart'):
    faces.arc_crop(FRAMES[0], np.full((5, 2), 7.0))
