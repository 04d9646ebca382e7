"""478 points of a face per frame, by the network of MediaPipe's landmarker.

Its file `face_landmarker.task` is a zip of TFLite networks; the one of the
points is run by OpenCV, which is installed anyhow. (The package mediapipe is
not: it brings a second OpenCV that overwrites this one, and its Tasks send
metrics to Google.) As MediaPipe follows a face: a square 1.5 times as large as
the box of its points, turned so that the eyes are level, 256x256 pixels. Here
every frame is found anew: the first square comes from the detector's box, the
second from the points that are seen in the first.
"""

from collections.abc import Callable
import os
import zipfile

import cv2
import numpy as np

POINTS = 478
# Outer corners of the right and the left eye, as the person sees them.
RIGHT_EYE, LEFT_EYE = 33, 263
# A crop [256, 256, 3] uint8 RGB -> [POINTS, 3] in its pixels, and the logit of
# there being a face.
Network = Callable[[np.ndarray], tuple[np.ndarray, float]]
# (frame, box [4], eyes [2, 2]) -> [POINTS, 3] in pixels of the frame, depth at
# the same scale; None where there is no face.
Find = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray | None]
_MEMBER = 'face_landmarks_detector.tflite'
_OUTPUTS = ('Identity', 'Identity_1')
_SIDE, _MARGIN = 256, 1.5


def load(path: str | os.PathLike) -> Network:
  """The network of a face_landmarker.task.

  Raises:
    ValueError: not a landmarker's file, or another network in it.
  """
  try:
    with zipfile.ZipFile(path) as bundle:
      content = bundle.read(_MEMBER)
    network = cv2.dnn.readNetFromTFLite(np.frombuffer(content, np.uint8))
  except (zipfile.BadZipFile, KeyError, cv2.error) as error:
    raise ValueError(
        f'{path}: not a face_landmarker.task with {_MEMBER}: {error}'
    ) from error
  names = network.getUnconnectedOutLayersNames()
  if not set(_OUTPUTS) <= set(names):
    raise ValueError(f'{path}: outputs {names}; expected {_OUTPUTS}')

  def run(crop: np.ndarray) -> tuple[np.ndarray, float]:
    network.setInput(cv2.dnn.blobFromImage(crop, 1.0 / 255.0))
    points, face = network.forward(_OUTPUTS)
    return points.reshape(POINTS, 3), float(face.item())

  return run


def finder(run: Network) -> Find:
  """Finds the points of one face with a network."""

  def look(frame, box, eyes) -> np.ndarray | None:
    back = _square(box, eyes)
    crop = cv2.warpAffine(
        frame, back, (_SIDE, _SIDE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )  # pyformat: disable
    points, face = run(crop)
    if face <= 0.0:
      return None
    flat = points[:, :2] @ back[:, :2].T + back[:, 2]
    return np.column_stack([flat, np.hypot(*back[:, 0]) * points[:, 2]])

  def find(frame, box, eyes) -> np.ndarray | None:
    first = look(frame, box, eyes)
    if first is None:
      return None
    low, high = first[:, :2].min(axis=0), first[:, :2].max(axis=0)
    box = np.concatenate([low, high - low])
    return look(frame, box, first[[RIGHT_EYE, LEFT_EYE], :2])

  return find


def _square(box: np.ndarray, eyes: np.ndarray) -> np.ndarray:
  """[2, 3] map from pixels of the crop to those of the frame.

  Args:
    box: [4] left, top, width, height in pixels.
    eyes: [2, 2] right and left eye, which are made level.
  """
  left, top, width, height = box
  step = eyes[1] - eyes[0]
  angle = np.arctan2(step[1], step[0])
  scale = _MARGIN * max(width, height) / _SIDE
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  turn = np.array([[cos, -sin], [sin, cos]])
  centre = np.array([left + width / 2, top + height / 2])
  return np.column_stack([turn, centre - turn @ np.full(2, _SIDE / 2)])
