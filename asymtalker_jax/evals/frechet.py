"""Distances between sets of features: Frechet distance and KID.

  FD  = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)             (1)
  KID = unbiased MMD^2 with kernel (x.y / d + 1)^3                         (2)

The trace of the root is the sum of roots of the eigenvalues of the symmetric
product, which stays right for covariances without full rank, where a matrix
square root of S1 S2 does not.
"""

import numpy as np


class Moments:
  """Mean and covariance of a stream of features, in float64.

  Batches are merged by the pairwise update of Chan et al., so that a large
  mean does not eat the digits of the covariance.
  """

  def __init__(self, dimension: int):
    """Args: dimension: d of the features."""
    self.count = 0
    self.mean = np.zeros(dimension)
    self._scatter = np.zeros((dimension, dimension))
    self._root: np.ndarray | None = None

  def update(self, features: np.ndarray) -> None:
    """Adds features [n, d]."""
    features = np.asarray(features, np.float64)
    count = len(features)
    if not count:
      return
    mean = features.mean(axis=0)
    centred = features - mean
    shift = mean - self.mean
    total = self.count + count
    self._scatter += centred.T @ centred
    self._scatter += np.outer(shift, shift) * self.count * count / total
    self.mean = self.mean + shift * count / total
    self.count, self._root = total, None

  @property
  def covariance(self) -> np.ndarray:
    """[d, d], normalised by n - 1.

    Raises:
      ValueError: fewer than 2 features.
    """
    if self.count < 2:
      raise ValueError(f'{self.count} features: a covariance needs at least 2')
    return self._scatter / (self.count - 1)

  @property
  def root(self) -> np.ndarray:
    """[d, d] symmetric square root of the covariance, where rounding below zero
    counts as zero; kept, since ground truth is compared with many sets."""
    if self._root is None:
      values, vectors = np.linalg.eigh(self.covariance)
      self._root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return self._root


def distance(first: Moments, truth: Moments) -> float:
  """Equation (1); it is the same the other way round."""
  product = truth.root @ first.covariance @ truth.root
  eigenvalues = np.linalg.eigvalsh((product + product.T) / 2)
  cross = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
  shift = first.mean - truth.mean
  spread = np.trace(first.covariance) + np.trace(truth.covariance)
  return float(shift @ shift + spread - 2.0 * cross)


def kid(first: np.ndarray, second: np.ndarray) -> float:
  """Equation (2) of features [n, d] and [m, d], one block.

  Raises:
    ValueError: sets of fewer than 2 features or of different dimensions.
  """
  first, second = np.asarray(first, float), np.asarray(second, float)
  n, m = len(first), len(second)
  if n < 2 or m < 2 or first.shape[1] != second.shape[1]:
    raise ValueError(
        f'features {first.shape} and {second.shape}: expected at least 2 each '
        'of equal dimension'
    )
  kernel = lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3
  within = kernel(first, first), kernel(second, second)
  return float(
      (within[0].sum() - np.trace(within[0])) / (n * (n - 1))
      + (within[1].sum() - np.trace(within[1])) / (m * (m - 1))
      - 2.0 * kernel(first, second).mean()
  )
