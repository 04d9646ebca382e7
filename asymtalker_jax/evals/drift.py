"""Drift: how a long video changes over time, from per-frame curves."""

from collections.abc import Iterable
import dataclasses

import numpy as np
from scipy import stats

# sRGB (D65) to XYZ relative to the white point.
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_XYZ /= _XYZ.sum(axis=1, keepdims=True)
_LINEAR = np.arange(256) / 255.0
_LINEAR = np.where(
    _LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4
).astype(np.float32)


def lab(frame: np.ndarray) -> np.ndarray:
  """CIE L*a*b* (D65) of a frame [..., 3] uint8 sRGB; float32."""
  xyz = _LINEAR[frame] @ _XYZ.T.astype(np.float32)
  epsilon = (6 / 29) ** 3
  f = np.where(
      xyz > epsilon, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29
  )
  x, y, z = f[..., 0], f[..., 1], f[..., 2]
  return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def mean_lab(frame: np.ndarray, every: int = 2) -> np.ndarray:
  """[3] mean colour of a frame [H, W, 3] uint8 on every second row and
  column."""
  return lab(frame[::every, ::every]).mean(axis=(0, 1))


def lab_shift(colours: np.ndarray, origin: np.ndarray) -> np.ndarray:
  """[N] Lab distance of mean colours [N, 3] to a mean colour [3]."""
  return np.linalg.norm(colours - origin, axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trend:
  """A per-frame curve, summarised.

  Attributes:
    times: [W] seconds, middle of each window.
    values: [W] mean of each window.
    first: mean of the first window; last: of the last.
    slope: per minute, least squares over windows.
    slope_interval: half width of its 95 % interval, windows taken as
      independent; infinite for fewer than 3 windows.
  """

  times: np.ndarray
  values: np.ndarray
  first: float
  last: float
  slope: float
  slope_interval: float


def windows(
    curve: np.ndarray, fps: int = 25, window_s: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
  """(times [W] in seconds, means [W]) of a curve [N]; a last window shorter
  than half is joined to the one before."""
  size = max(int(round(window_s * fps)), 1)
  count = max(int(np.floor(len(curve) / size + 0.5)), 1)
  edges = np.append(np.arange(count) * size, len(curve))
  means = [np.mean(curve[a:b]) for a, b in zip(edges[:-1], edges[1:])]
  return (edges[:-1] + edges[1:]) / 2 / fps, np.asarray(means)


def trend(
    curve: np.ndarray, fps: int = 25, window_s: float = 10.0
) -> Trend:
  """The trend of a per-frame curve [N]."""
  times, values = windows(curve, fps, window_s)
  slope, interval = 0.0, np.inf
  if len(values) >= 2:
    fit = stats.linregress(times / 60.0, values)
    slope = float(fit.slope)
    if len(values) >= 3:
      interval = float(fit.stderr * stats.t.ppf(0.975, len(values) - 2))
  return Trend(
      times=times,
      values=values,
      first=float(values[0]),
      last=float(values[-1]),
      slope=slope,
      slope_interval=interval,
  )


def mean_colours(frames: Iterable[np.ndarray]) -> np.ndarray:
  """[N, 3] mean Lab colour of each frame."""
  return np.stack([mean_lab(frame) for frame in frames])
