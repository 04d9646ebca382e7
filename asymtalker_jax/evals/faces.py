"""The face in a video: one track, and crops of it.

Faces are found frame by frame by YuNet (OpenCV; the file is the user's) and
joined into one track. Crops for SyncNet follow joonson/syncnet_python's
pipeline: boxes smoothed by a median of 13 frames, margin 0.4, 224x224 pixels.
Crops for ArcFace map five points onto its template.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os

import cv2
import numpy as np
from scipy import signal

# Of a frame: rows of [left, top, width, height, 5 points x 2, score].
Detect = Callable[[np.ndarray], np.ndarray]
MAX_GAP_FRAMES = 25  # without a face, bridged by interpolation
OTHERS_SHARE = 0.1  # of frames in which a second face is allowed
SECOND_FACE = 0.4  # of the height of the largest: smaller ones do not count
_SCORE, _NMS = 0.8, 0.3
_DETECT_SIDE = 640  # pixels
_MARGIN, _SMOOTHING, _SYNC_SIZE, _GREY = 0.4, 13, 224, 110
_ARC_SIZE = 112
# Eyes, nose and corners of the mouth on ArcFace's 112x112 pixels, as seen.
_ARC_POINTS = np.float32([
    [38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366],
    [41.5493, 92.3655], [70.7299, 92.2041],
])  # pyformat: disable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Track:
  """One face through N frames.

  Attributes:
    boxes: [N, 4] left, top, width, height in pixels.
    points: [N, 5, 2] right eye, left eye, nose, mouth corners, in pixels.
  """

  boxes: np.ndarray
  points: np.ndarray


def yunet(path: str | os.PathLike) -> Detect:
  """The detector of a YuNet file.

  Raises:
    ValueError: not a file that OpenCV can read, or another network.
  """
  try:
    network = cv2.FaceDetectorYN.create(
        os.fspath(path), '', (320, 320), _SCORE, _NMS
    )
    # It looks for its outputs when it is run.
    network.detect(np.zeros((320, 320, 3), np.uint8))
  except cv2.error as error:
    raise ValueError(f'{path}: not a YuNet network: {error}') from error

  def detect(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(1.0, _DETECT_SIDE / max(height, width))
    if scale < 1.0:
      frame = cv2.resize(
          frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
      )
    network.setInputSize(frame.shape[1::-1])
    _, rows = network.detect(np.ascontiguousarray(frame[..., ::-1]))
    if rows is None:
      return np.zeros((0, 15))
    return np.concatenate([rows[:, :14] / scale, rows[:, 14:]], axis=1)

  return detect


def track(frames: Sequence[np.ndarray], detect: Detect) -> Track:
  """The one face of a video.

  Args:
    frames: [H, W, 3] uint8 RGB.
    detect: of `yunet`.

  Raises:
    ValueError: no face, none for longer than MAX_GAP_FRAMES, or several.
  """
  rows, at, crowded, last = [], [], 0, None
  for index, frame in enumerate(frames):
    found = detect(frame)
    if not len(found):
      continue
    heights = found[:, 3]
    crowded += np.count_nonzero(heights >= SECOND_FACE * heights.max()) > 1
    best = found[np.argmax(heights)] if last is None else _nearest(found, last)
    rows.append(best[:14])
    at.append(index)
    last = best
  count = len(frames)
  if not rows:
    raise ValueError(f'no face in {count} frames; expected one to measure')
  gaps = np.diff([-1, *at, count]) - 1
  if gaps.max() > MAX_GAP_FRAMES:
    start = ([-1] + at)[int(np.argmax(gaps))] + 1
    raise ValueError(
        f'no face for {gaps.max()} frames from frame {start} on; expected at'
        f' most {MAX_GAP_FRAMES}'
    )
  if crowded > OTHERS_SHARE * count:
    raise ValueError(
        f'several faces in {crowded} of {count} frames; expected one person'
    )
  values = np.stack(rows)
  full = np.stack(
      [np.interp(np.arange(count), at, column) for column in values.T], axis=1
  )
  return Track(boxes=full[:, :4], points=full[:, 4:].reshape(count, 5, 2))


def _nearest(found: np.ndarray, last: np.ndarray) -> np.ndarray:
  """The face whose centre is nearest to that of the frame before."""
  centre = lambda rows: rows[..., :2] + rows[..., 2:4] / 2
  return found[np.argmin(np.linalg.norm(centre(found) - centre(last), axis=-1))]


def sync_crops(frames: Sequence[np.ndarray], found: Track) -> np.ndarray:
  """[N, 224, 224, 3] uint8 crops as SyncNet expects them."""
  left, top, width, height = found.boxes.T
  smooth = lambda x: signal.medfilt(np.asarray(x), _median_size(len(x)))
  half = smooth(np.maximum(width, height) / 2)
  centre_y, centre_x = smooth(top + height / 2), smooth(left + width / 2)
  out = []
  for frame, size, y, x in zip(frames, half, centre_y, centre_x):
    pad = int(size * (1 + 2 * _MARGIN))
    padded = np.pad(
        frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=_GREY
    )
    y, x = y + pad, x + pad
    crop = padded[
        int(y - size) : int(y + size * (1 + 2 * _MARGIN)),
        int(x - size * (1 + _MARGIN)) : int(x + size * (1 + _MARGIN)),
    ]
    out.append(cv2.resize(crop, (_SYNC_SIZE, _SYNC_SIZE)))
  return np.stack(out)


def _median_size(count: int) -> int:
  """Odd length of the smoothing filter, no longer than the video."""
  return min(_SMOOTHING, count - 1 + count % 2)


def arc_crop(frame: np.ndarray, points: np.ndarray) -> np.ndarray:
  """[112, 112, 3] uint8, the five points [5, 2] on ArcFace's template.

  Raises:
    ValueError: points that no turned and scaled face has, as all in one place.
  """
  return cv2.warpAffine(frame, _similarity(points), (_ARC_SIZE, _ARC_SIZE))


def _similarity(points: np.ndarray) -> np.ndarray:
  """[2, 3] turn, scale and shift that bring points [5, 2] nearest to ArcFace's
  template in least squares, as InsightFace aligns (Umeyama, 1991).

  As complex numbers z the map is a z + b, and a is a regression.
  """
  z, target = (x[:, 0] + 1j * x[:, 1] for x in (np.float64(points), _ARC_POINTS))
  from_mean = z - z.mean()
  power = np.sum(np.abs(from_mean) ** 2)
  if not power > 1e-6:
    raise ValueError(
        f'face with the points {np.round(points, 1).tolist()}: expected five'
        ' that are apart'
    )
  a = np.sum(from_mean.conj() * (target - target.mean())) / power
  b = target.mean() - a * z.mean()
  return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
