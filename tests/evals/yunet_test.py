"""YuNet around OpenCV, with a network that sees red squares."""

import cv2
import numpy as np
import pytest

from asymtalker_jax.evals import faces
from tests.evals import tiny_onnx

COLUMNS = {'cls': 1, 'obj': 1, 'bbox': 4, 'kps': 10}
POINTS = np.arange(10, dtype=np.float32) / 16  # of a cell, from its corner


def _head(name, step):
  """Weights and biases of one output at one size of cells.

  Cells of 32 pixels are faces where they are red, by OpenCV's blue first.
  """
  weights = np.zeros((COLUMNS[name], 3, step, step), np.float32)
  bias = np.zeros(COLUMNS[name], np.float32)
  if name == 'cls' and step == 32:
    weights[0] = np.reshape([-1.0, -1.0, 1.0], (3, 1, 1)) / 255 / step**2
  elif name == 'obj':
    bias[:] = 1.0
  elif name == 'bbox':
    bias[:2] = 0.5  # The centre; the size is the cell's.
  elif name == 'kps':
    bias[:] = POINTS
  return weights, bias


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  nodes, constants, outputs = [], [], {}
  for name, columns in COLUMNS.items():
    for step in (8, 16, 32):
      key = f'{name}_{step}'
      nodes += [
          tiny_onnx.node('Conv', f'input w{key} b{key}', f'conv{key}',
                         kernel_shape=[step] * 2, strides=[step] * 2),
          tiny_onnx.node('Transpose', f'conv{key}', f'last{key}',
                         perm=[0, 2, 3, 1]),
          tiny_onnx.node('Reshape', f'last{key} s{key}', key),
      ]  # pyformat: disable
      weights, bias = _head(name, step)
      constants += [
          tiny_onnx.tensor(f'w{key}', weights),
          tiny_onnx.tensor(f'b{key}', bias),
          tiny_onnx.tensor(f's{key}', np.array([1, -1, columns])),
      ]
      outputs[key] = (1, (640 // step) ** 2, columns)
  found = tmp_path_factory.mktemp('yunet') / 'yunet.onnx'
  found.write_bytes(tiny_onnx.model(
      nodes, {'input': (1, 3, 640, 640)}, outputs, constants
  ))  # pyformat: disable
  return found


def frame_of(width, height, squares, colour=(255, 0, 0)):
  frame = np.zeros((height, width, 3), np.uint8)
  for left, top, side in squares:
    frame[top : top + side, left : left + side] = colour
  return frame


# A square is a cell of 32 pixels of what the network sees.
@pytest.mark.parametrize('width, height, squares', [
    (320, 160, [(64, 96, 32)]),
    (640, 640, [(608, 0, 32)]),
    (1280, 960, [(256, 128, 64), (1152, 768, 64)]),
    (960, 1920, [(192, 1728, 96)]),
    (1000, 100, [(300, 50, 50)]),
])
def test_boxes_and_points_are_in_pixels_of_the_frame(
    path, width, height, squares
):
  detect = faces.yunet(path)
  frame = frame_of(width, height, squares)
  before = frame.copy()
  found = detect(frame)
  np.testing.assert_array_equal(frame, before)
  assert found.shape == (len(squares), 15)
  found = found[np.argsort(found[:, 0])]
  for row, (left, top, side) in zip(found, squares):
    np.testing.assert_allclose(row[:4], [left, top, side, side], atol=1e-3)
    points = row[4:14].reshape(5, 2)
    expected = POINTS.reshape(5, 2) * side + [left, top]
    np.testing.assert_allclose(points, expected, atol=1e-3)
  np.testing.assert_allclose(found[:, 14], 1.0, atol=1e-3)


def test_one_detector_takes_frames_of_any_size_and_sees_colours(path):
  detect = faces.yunet(path)
  assert len(detect(frame_of(1280, 960, [(256, 128, 64)]))) == 1
  (row,) = detect(frame_of(320, 320, [(32, 64, 32)]))
  np.testing.assert_allclose(row[:4], [32, 64, 32, 32], atol=1e-3)
  for colour in ((0, 0, 255), (255, 255, 255)):
    none = detect(frame_of(320, 320, [(32, 64, 32)], colour))
    assert none.shape == (0, 15)


def test_frames_are_shrunk_to_640_pixels_and_never_enlarged(monkeypatch):
  seen = [(320, 320)]

  class Network:

    def setInputSize(self, size):
      seen.append(size)

    def detect(self, frame):
      assert frame.shape[1::-1] == seen[-1] and frame.flags.c_contiguous
      return 1, None

  monkeypatch.setattr(
      cv2.FaceDetectorYN, 'create', lambda *unused_words: Network()
  )
  detect = faces.yunet('yunet.onnx')
  seen.clear()
  for size in ((1920, 1080), (1080, 1920), (640, 640), (96, 64)):
    assert detect(frame_of(*size, [])).shape == (0, 15)
  assert seen == [(640, 360), (360, 640), (640, 640), (96, 64)]


def test_other_files_are_refused(tmp_path, path):
  whole = path.read_bytes()
  arcface = tiny_onnx.model(
      [tiny_onnx.node('Flatten', 'input.1', '683')],
      {'input.1': (1, 3, 112, 112)}, {'683': (1, 'features')},
  )  # pyformat: disable
  half = whole[: len(whole) // 2]
  for content in (b'', b'something else', half, arcface):
    other = tmp_path / 'other.onnx'
    other.write_bytes(content)
    with pytest.raises(ValueError, match='other.onnx: not a YuNet network'):
      faces.yunet(other)
  with pytest.raises(ValueError, match='missing.onnx: not a YuNet network'):
    faces.yunet(tmp_path / 'missing.onnx')
