"""Lip-sync: read mouth opening against the mouth that the speech asks for.

  c(l) = Pearson correlation of read[t + l] with truth[t]                  (1)

A best lag l > 0 means that the mouth is late by l frames.
"""

import dataclasses

import numpy as np

MAX_LAG = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class LipSync:
  """Result for one video or the mean over videos.

  Attributes:
    lags: [2 M + 1] frames, -M..M.
    curve: [2 M + 1] correlation at each lag.
  """

  lags: np.ndarray
  curve: np.ndarray

  @property
  def correlation(self) -> float:
    """Correlation at lag 0."""
    return float(self.curve[len(self.curve) // 2])

  @property
  def best_lag(self) -> int:
    """Frames by which the mouth is late, where the correlation is largest."""
    return int(self.lags[np.argmax(self.curve)])

  @property
  def best(self) -> float:
    """The largest correlation."""
    return float(self.curve.max())


def correlation(x: np.ndarray, y: np.ndarray) -> float:
  """Pearson correlation of two [N] signals; 0 where one of them is constant
  (a mouth that never moves follows nothing)."""
  x = np.asarray(x, np.float64) - np.mean(x, dtype=np.float64)
  y = np.asarray(y, np.float64) - np.mean(y, dtype=np.float64)
  scale = np.sqrt((x * x).sum() * (y * y).sum())
  return float((x * y).sum() / scale) if scale > 1e-9 else 0.0


def measure(
    read: np.ndarray, truth: np.ndarray, max_lag: int = MAX_LAG
) -> LipSync:
  """Equation (1) for lags -max_lag..max_lag.

  Args:
    read: [N] mouth opening read from the video.
    truth: [N] ground-truth mouth opening of the same speech.
    max_lag: M, frames.

  Raises:
    ValueError: signals of different lengths or of fewer than 4 M frames.
  """
  if len(read) != len(truth) or len(read) < 4 * max_lag:
    raise ValueError(
        f'mouth signals of {len(read)} and {len(truth)} frames: expected equal '
        f'lengths of at least {4 * max_lag}'
    )
  count = len(read)
  lags = np.arange(-max_lag, max_lag + 1)
  curve = [
      correlation(
          read[max(lag, 0) : count + min(lag, 0)],
          truth[max(-lag, 0) : count - max(lag, 0)],
      )
      for lag in lags
  ]
  return LipSync(lags=lags, curve=np.asarray(curve))


def mean(results: list[LipSync]) -> LipSync:
  """The mean curve over videos; its peak is the lag of the whole set."""
  return LipSync(
      lags=results[0].lags, curve=np.mean([r.curve for r in results], axis=0)
  )
