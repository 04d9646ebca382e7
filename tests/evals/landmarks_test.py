"""Points of a face: the crop and the way back, without the network."""

import os
import zipfile

import cv2
import numpy as np
import pytest

from asymtalker_jax.evals import blinks
from asymtalker_jax.evals import landmarks
from asymtalker_jax.inputs import video
from tests import shared_media

TASK = os.path.join(
    os.environ.get('ASYMTALKER_WEIGHTS', ''), 'face_landmarker.task'
)


def marks(turn=0.0):
  """[478, 2] places in a frame: a grid, turned by radians."""
  grid = np.stack(np.meshgrid(np.arange(24), np.arange(20)), axis=-1)
  places = grid.reshape(-1, 2)[: landmarks.POINTS] * 4.0 - [46.0, 38.0]
  cos, sin = np.cos(turn), np.sin(turn)
  return places @ np.array([[cos, sin], [-sin, cos]]) + [125.0, 120.0]


def box_of(places):
  low = places.min(axis=0)
  return np.concatenate([low, places.max(axis=0) - low])


class Drawn:
  """A network that knows the frame: coordinates are the colours of a pixel."""

  def __init__(self, places, face=5.0):
    self.places, self.face, self.crops = places, face, []

  def __call__(self, crop):
    self.crops.append(crop)
    found = np.zeros((landmarks.POINTS, 3))
    for index, place in enumerate(self.places):
      distance = np.abs(crop[..., :2].astype(float) - place).sum(axis=-1)
      row, column = np.unravel_index(np.argmin(distance), distance.shape)
      found[index] = [column, row, 10.0]
    return found, self.face


def coordinates(height=240, width=250):
  """[H, W, 3] uint8: red is the column of a pixel, green its row."""
  rows, columns = np.mgrid[:height, :width]
  return np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)


@pytest.mark.parametrize('turn', [0.0, 0.4, -1.0])
def test_points_come_back_to_where_they_are_in_the_frame(turn):
  places = marks(turn)
  network = Drawn(places)
  find = landmarks.finder(network)
  eyes = places[[landmarks.RIGHT_EYE, landmarks.LEFT_EYE]]
  found = find(coordinates(), box_of(places), eyes)
  assert found.shape == (478, 3)
  assert np.abs(found[:, :2] - places).max() < 1.5
  # The second crop is 1.5 times the box of the points: 256 pixels of it.
  expected = 10.0 * 1.5 * box_of(found[:, :2])[2:].max() / 256
  np.testing.assert_allclose(found[:, 2], expected, rtol=0.02)
  assert [crop.shape for crop in network.crops] == [(256, 256, 3)] * 2


def test_eyes_are_level_in_the_crop():
  right, left = np.array([100.0, 130.0]), np.array([140.0, 100.0])
  back = landmarks._square(
      np.array([80.0, 80.0, 80.0, 60.0]), np.stack([right, left])
  )
  there = cv2.invertAffineTransform(back)
  seen = np.stack([right, left]) @ there[:, :2].T + there[:, 2]
  np.testing.assert_allclose(seen[0, 1], seen[1, 1])
  np.testing.assert_allclose(seen[1, 0] - seen[0, 0], 50.0 * 256 / 120)
  np.testing.assert_allclose(back @ [128.0, 128.0, 1.0], [120.0, 110.0])


def test_no_face_is_none():
  places = marks()
  find = landmarks.finder(Drawn(places, face=-1.0))
  eyes = np.array([[100.0, 100.0], [140.0, 100.0]])
  assert find(coordinates(), box_of(places), eyes) is None


@pytest.mark.parametrize('member, message', [
    (None, 'not a face_landmarker.task'),
    ('other.tflite', 'not a face_landmarker.task'),
    ('face_landmarks_detector.tflite', 'not a face_landmarker.task'),
])
def test_other_files_are_refused(tmp_path, member, message):
  path = tmp_path / 'face_landmarker.task'
  path.write_bytes(b'damaged')
  if member:
    with zipfile.ZipFile(path, 'w') as bundle:
      bundle.writestr(member, b'damaged')
  with pytest.raises(ValueError, match=message):
    landmarks.load(path)


@pytest.mark.skipif(
    not os.path.isfile(TASK),
    reason='ASYMTALKER_WEIGHTS: no folder with face_landmarker.task',
)
@pytest.mark.parametrize('clip, falls', [
    # Seen by eye in the frames; two frames later in the second copy.
    ('hdtf_wda_alexandriaocasiocortez_000',
     [10, 25, 33, 56, 79, 96, 110, 128, 150, 176]),
    ('vretalk_3', [11, 27, 35, 58, 81, 98, 112]),
    ('vretalk_2', []),
])
def test_blinks_of_a_filmed_person(clip, falls):
  frames = video.read_frames(shared_media.path(f'clips/{clip}.mp4'))
  cascade = cv2.CascadeClassifier(
      f'{cv2.data.haarcascades}haarcascade_frontalface_default.xml'
  )
  grey = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
  found = cascade.detectMultiScale(grey, minSize=(150, 150))
  box = max(found, key=lambda row: row[2]).astype(float)
  find = landmarks.finder(landmarks.load(TASK))
  level = np.array([[0.0, 0.0], [1.0, 0.0]])
  points = np.stack([find(frame, box, level) for frame in frames])
  track = blinks.openness(blinks.opening(points))
  starts = [start for start, _ in blinks.find(track)]
  assert len(starts) == len(falls)
  np.testing.assert_allclose(starts, falls, atol=2)
