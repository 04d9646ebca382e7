"""Sync-C and Sync-D: how well a mouth follows speech, as SyncNet v2 sees it.

  d(l) = mean over windows t of |lip[t] - speech[t + l] + 1e-6|              (1)
  Sync-D = min d,   Sync-C = median d - min d,   offset = - argmin d         (2)

for lags l of -15 to 15 frames. As joonson/syncnet_python computes them, with
its habits: T - 5 windows of T frames, speech beyond the ends is zeros, MFCC as
python_speech_features makes them. Checked against its recorded outputs.
"""

from collections.abc import Callable, Iterator
import dataclasses
import os

import numpy as np
import safetensors.numpy
from scipy import fft

from asymtalker_jax import types
from asymtalker_jax.models.metric import syncnet

VSHIFT = 15  # frames
LEAST_FRAMES = 2 * VSHIFT + syncnet.WINDOW  # of a video that is measured
RATE_HZ, SAMPLES_PER_FRAME = 16000, 640
_STEP, _LENGTH, _FFT, _FILTERS = 160, 400, 512, 26
_PREEMPHASIS, _LIFTER = 0.97, 22
_COLUMNS_PER_FRAME = 4
_BATCH = 12  # windows of one call


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sync:
  """Of one video.

  Attributes:
    curve: [2 VSHIFT + 1] equation (1), lags rising.
    confidence: Sync-C.
    distance: Sync-D.
    offset: frames by which speech comes before the mouth's best fit.
  """

  curve: np.ndarray
  confidence: float
  distance: float
  offset: int


def _filters() -> np.ndarray:
  """[26, 257] triangles, evenly spaced on the mel scale from 0 to 8 kHz."""
  top = 2595.0 * np.log10(1.0 + RATE_HZ / 2 / 700.0)
  hertz = 700.0 * (10.0 ** (np.linspace(0, top, _FILTERS + 2) / 2595.0) - 1.0)
  edges = np.floor((_FFT + 1) * hertz / RATE_HZ)
  bins = np.arange(_FFT // 2 + 1)
  rows = []
  for low, middle, high in zip(edges, edges[1:], edges[2:]):
    rising = (bins - low) / max(middle - low, 1)
    falling = (high - bins) / max(high - middle, 1)
    row = np.where(bins < middle, rising, falling)
    rows.append(np.where((bins >= low) & (bins < high), row, 0.0))
  return np.stack(rows)


def mfcc(samples: np.ndarray) -> np.ndarray:
  """[T, 13] float64 at 100 Hz of samples [S] in units of 16-bit integers."""
  samples = np.asarray(samples, np.float64)
  emphasised = np.append(samples[0], samples[1:] - _PREEMPHASIS * samples[:-1])
  count = 1 + max(0, -(-(len(samples) - _LENGTH) // _STEP))
  padded = np.zeros((count - 1) * _STEP + _LENGTH)
  padded[: len(emphasised)] = emphasised[: len(padded)]
  frames = np.lib.stride_tricks.sliding_window_view(padded, _LENGTH)[::_STEP]
  power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
  tiny = np.finfo(np.float64).eps
  energy = power.sum(axis=1)
  bands = power @ _filters().T
  cepstrum = fft.dct(
      np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm='ortho'
  )[:, : syncnet.COEFFICIENTS]
  n = np.arange(syncnet.COEFFICIENTS)
  cepstrum *= 1.0 + _LIFTER / 2.0 * np.sin(np.pi * n / _LIFTER)
  cepstrum[:, 0] = np.log(np.where(energy == 0, tiny, energy))
  return cepstrum


def distances(
    lips: np.ndarray, speech: np.ndarray, vshift: int = VSHIFT
) -> np.ndarray:
  """[N, 2 vshift + 1] distance of every window to speech around it.

  Args:
    lips: [N, D] embeddings.
    speech: [N, D], of the same windows.
    vshift: frames to either side.
  """
  padded = np.pad(speech, ((vshift, vshift), (0, 0)))
  count = len(lips)
  shifts = [
      np.linalg.norm(lips - padded[i : i + count] + np.float32(1e-6), axis=1)
      for i in range(2 * vshift + 1)
  ]
  return np.stack(shifts, axis=1)


def summarise(found: np.ndarray) -> Sync:
  """Equations (2) of `distances`."""
  curve = found.mean(axis=0)
  best = int(np.argmin(curve))
  return Sync(
      curve=curve,
      confidence=float(np.median(curve) - curve[best]),
      distance=float(curve[best]),
      offset=found.shape[1] // 2 - best,
  )


class SyncNet:
  """The network with its weights."""

  def __init__(self, params: types.Params):
    """Args: params: of `models.metric.syncnet`."""
    self._params = params

  def lips(self, frames: np.ndarray) -> np.ndarray:
    """[T - 5, 1024] of frames [T, 224, 224, 3] uint8 RGB, T > 5."""
    count = len(frames) - syncnet.WINDOW
    bgr = frames[..., ::-1]
    length = _BATCH + syncnet.WINDOW - 1
    piece = lambda start: bgr[start : start + length][None].astype(np.float32)
    return self._run(piece, 1, length, count, 'lips')

  def speech(self, waveform: np.ndarray, count: int) -> np.ndarray:
    """[count, 1024] of a waveform [S] in [-1, 1], S >= 640 (count + 5)."""
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767)
    return self.windows(mfcc(samples).T.astype(np.float32), count)

  def windows(self, columns: np.ndarray, count: int) -> np.ndarray:
    """[count, 1024] of MFCC [13, T], four columns per video frame."""
    at = np.arange(count) * _COLUMNS_PER_FRAME
    index = at[:, None] + np.arange(syncnet.COLUMNS)
    found = columns[:, index].transpose(1, 0, 2)
    piece = lambda start: found[start : start + _BATCH]
    return self._run(piece, 0, _BATCH, count, 'speech')

  def _run(
      self, piece: Callable[[int], np.ndarray], axis: int, length: int,
      count: int, method: str,
  ) -> np.ndarray:  # pyformat: disable
    """Runs pieces of one shape, so that one program is compiled."""
    out = []
    for start in range(0, count, _BATCH):
      x = piece(start)
      missing = [(0, 0)] * x.ndim
      missing[axis] = (0, length - x.shape[axis])
      x = np.pad(x, missing, mode='edge')
      out.append(np.asarray(syncnet.apply(self._params, x, method)))
    return np.concatenate(out)[:count]

  def measure(
      self, frames: np.ndarray, waveform: np.ndarray, vshift: int = VSHIFT
  ) -> Sync:
    """Sync of a mouth crop.

    Args:
      frames: [T, 224, 224, 3] uint8 RGB face crops at 25 fps.
      waveform: [S] float32 at 16 kHz.
      vshift: frames to either side.

    Raises:
      ValueError: fewer than 2 vshift frames: zeros beyond the ends would win.
    """
    count = min(len(frames), len(waveform) // SAMPLES_PER_FRAME)
    least = 2 * vshift + syncnet.WINDOW
    if count < least:
      raise ValueError(
          f'{count} frames with sound: Sync-C needs at least {least}'
      )
    lips = self.lips(frames[:count])
    return summarise(distances(lips, self.speech(waveform, len(lips)), vshift))


def load(path: str | os.PathLike) -> SyncNet:
  """The network of a file that `asymtalker convert` wrote.

  Raises:
    ValueError: a damaged file, or tensors of another network.
  """
  path = os.fspath(path)
  try:
    flat = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f'{path}: {error}') from error
  expected = {k: v.shape for k, v in _leaves(syncnet.targets())}
  found = {key: value.shape for key, value in flat.items()}
  if found != expected:
    wrong = sorted(set(found.items()) ^ set(expected.items()))
    raise ValueError(f'{path}: not SyncNet v2, e.g. {wrong[:2]}')
  tree: types.Params = {}
  for key, value in flat.items():
    *parents, leaf = key.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return SyncNet(tree)


def _leaves(tree, prefix: str = '') -> Iterator[tuple[str, object]]:
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _leaves(value, f'{prefix}{name}/')
    else:
      yield prefix + name, value
