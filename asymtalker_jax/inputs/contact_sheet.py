"""Many frames as one picture."""

from collections.abc import Sequence
import io

import numpy as np
from PIL import Image


def spread(frames: np.ndarray, count: int) -> np.ndarray:
  """At most `count` of frames [n, H, W, 3], evenly spread over all of them."""
  count = min(len(frames), count)
  return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def wrap(frames: np.ndarray, columns: int) -> list[np.ndarray]:
  """Rows of up to `columns` frames [n, H, W, 3]."""
  return [frames[i : i + columns] for i in range(0, len(frames), columns)]


def picture(rows: Sequence[np.ndarray]) -> np.ndarray:
  """Rows of frames [n, h, w, 3] uint8, black where a row is short or a frame
  is smaller than the largest, H x W.

  Returns:
    [rows H, columns W, 3] uint8.
  """
  columns, height, width = np.max([row.shape[:3] for row in rows], axis=0)
  sheet = np.zeros((len(rows), height, columns, width, 3), np.uint8)
  for cells, row in zip(sheet, rows):
    count, h, w, _ = row.shape
    cells[:h, :count, :w] = row.swapaxes(0, 1)
  return sheet.reshape(len(rows) * height, columns * width, 3)


def png(image: np.ndarray) -> bytes:
  """An image [H, W, 3] uint8 as a PNG file."""
  content = io.BytesIO()
  Image.fromarray(image).save(content, format='PNG')
  return content.getvalue()
