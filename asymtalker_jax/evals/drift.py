"""Drift: how a long video changes over time, from per-frame curves."""

from collections.abc import Iterable, Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from asymtalker_jax.generate import color


@jax.jit
def _lab(frame: jax.Array) -> jax.Array:
  return color.rgb_to_lab(frame.astype(jnp.float32) / 255.0)


def lab(frame: np.ndarray) -> np.ndarray:
  """CIE L*a*b* (D65) of a frame [..., 3] uint8 sRGB; float32."""
  return np.asarray(_lab(frame))


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
    starts: [W] seconds.
    values: [W] mean of each window; not a number where it has none.
    first: mean of the first window; last: of the last.
    slope: per minute, least squares over windows; not a number for fewer than
      2 that have a value.
    slope_interval: half width of its 95 % interval, wider where neighbouring
      windows are alike (`_half_width`: how far it can be trusted); infinite
      for fewer than 3 windows.
  """

  times: np.ndarray
  starts: np.ndarray
  values: np.ndarray
  first: float
  last: float
  slope: float
  slope_interval: float


def edges(count: int, size: int) -> np.ndarray:
  """[W + 1] where windows of `size` frames begin, and `count`, where the last
  ends; one shorter than half is joined to the one before."""
  number = max(int(np.floor(count / size + 0.5)), 1)
  return np.append(np.arange(number) * size, count)


def windows(
    curve: np.ndarray, ends: np.ndarray, fps: int = 25
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Middles and starts [W] in seconds and means [W] of a curve [N], of windows
  between `ends` [W + 1]."""
  means = [np.mean(curve[a:b]) for a, b in zip(ends[:-1], ends[1:])]
  middles = (ends[:-1] + ends[1:]) / 2
  return middles / fps, ends[:-1] / fps, np.asarray(means)


def _degrees(rest: np.ndarray) -> float:
  """Degrees of freedom of a slope, from its residuals [W] with memory.

  As of an autoregressive process of order 1 (Santer et al., 2000):

    n = W (1 - r) / (1 + r),   degrees = n - 2                              (1)

  for the correlation r >= 0 of neighbours. Those of residuals from a line are
  too low by about (2 + 4 r) / W, which is undone; r of 12 windows is a rough
  guess all the same, so at least two degrees are kept.
  """
  count, power = len(rest), float(rest @ rest)
  most = count - 2.0
  if power <= 1e-24:
    return most
  found = float(rest[1:] @ rest[:-1]) / power
  r = np.clip((count * found + 2.0) / max(count - 4, 1), 0.0, 1.0)
  return float(max(count * (1 - r) / (1 + r) - 2.0, min(2.0, most)))


def _half_width(minutes: np.ndarray, rest: np.ndarray) -> float:
  """Of the 95 % interval of a slope with residuals `rest` [W].

  How often it holds the slope of an autoregressive process whose neighbours
  correlate by rho, in %, of 4000 draws each (tests/evals/drift_test.py makes
  500):

    rho     0    0.3  0.5  0.8  0.9
    W = 6   97   95   92   86   85
    W = 12  97   95   92   89   86
    W = 60  96   94   95   94   94

  So it is too narrow where few windows remember much.
  """
  degrees = _degrees(rest)
  around = minutes - minutes.mean()
  error = math.sqrt(float(rest @ rest) / degrees / float(around @ around))
  return float(stats.t.ppf(0.975, degrees)) * error


def trend(curve: np.ndarray, ends: np.ndarray, fps: int = 25) -> Trend:
  """The trend of a per-frame curve [N] over windows between `ends` [W + 1];
  those without a value are left out of the slope."""
  times, starts, values = windows(curve, ends, fps)
  slope, interval = np.nan, np.inf
  known = np.isfinite(values)
  minutes, level = times[known] / 60.0, values[known]
  if len(level) >= 2:
    fit = stats.linregress(minutes, level)
    slope = float(fit.slope)
    if len(level) >= 3:
      rest = level - (fit.intercept + fit.slope * minutes)
      interval = _half_width(minutes, rest)
  return Trend(
      times=times,
      starts=starts,
      values=values,
      first=float(values[0]),
      last=float(values[-1]),
      slope=slope,
      slope_interval=interval,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limit:
  """What a window may be, relative to the first one.

  Attributes:
    change: largest loss; a share of the first value where `relative`, else in
      the unit of the figure.
    relative: see `change`.
    rising: whether the figure gets worse by growing.
  """

  change: float
  relative: bool = True
  rising: bool = False

  def of(self, first: float) -> float:
    """The value that counts as failure for a first window of `first`."""
    room = abs(first) * self.change if self.relative else self.change
    return first + room if self.rising else first - room


def time_to_failure(found: Trend, limit: Limit) -> float | None:
  """Seconds to the start of the first window past its limit; None: never."""
  bound = limit.of(found.first)
  past = found.values > bound if limit.rising else found.values < bound
  if not past.any():
    return None
  return float(found.starts[np.argmax(past)])


def interval(values: Sequence[float]) -> float:
  """Half width of the 95 % interval of the mean, Student's t; not a number for
  fewer than 2 values."""
  count = len(values)
  if count < 2:
    return math.nan
  spread = float(np.std(values, ddof=1)) / math.sqrt(count)
  return float(stats.t.ppf(0.975, count - 1)) * spread


def mean_colours(frames: Iterable[np.ndarray]) -> np.ndarray:
  """[N, 3] mean Lab colour of each frame."""
  return np.stack([mean_lab(frame) for frame in frames])
