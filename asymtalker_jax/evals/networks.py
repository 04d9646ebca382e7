"""Metrics of the field, by the public networks.

FID, FVD, Sync-C and -D, ArcFace, LPIPS, blinks. Files are in evals/weights.py.
Features of ground truth are kept on disk by the content of the frames, so a
second system does not pay for them again.
"""

from collections.abc import Callable, Sequence
import functools
import hashlib
import io
import os
import pathlib

from absl import logging
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import blinks
from asymtalker_jax.evals import faces
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import landmarks
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import report
from asymtalker_jax.evals import sync_confidence
from asymtalker_jax.evals import torch_networks
from asymtalker_jax.evals import weights

METRICS = tuple(weights.OF_METRIC)
FPS = 25
CLIP_FRAMES = 16  # of FVD
LPIPS_EVERY = 5
WINDOW_FRAMES = 250  # of the distances over time, 10 s
_BATCH = 16
REAL = 'real_features'

Features = Callable[[np.ndarray], np.ndarray]


class FeatureDistance:
  """A `Metric`: Frechet distance of features, over all of a system's videos.

  And over time: features of the same WINDOW_FRAMES of all videos against all
  of ground truth, where videos are longer than that.
  """

  warnings = ()

  def __init__(
      self, name: str, description: str, dimension: int, features: Features,
      cache: pathlib.Path | None = None, stride: int = 1,
  ):  # pyformat: disable
    """Describes it.

    Args:
      name: 'fid' or 'fvd'; also of the figure.
      description: protocol.
      dimension: d.
      features: frames [N, H, W, 3] uint8 of a video -> [n, d].
      cache: folder for features of ground truth by this network, or None.
      stride: frames from one feature to the next.
    """
    self.name, self.description = name, description
    self.dimension = dimension
    self._features, self._cache = features, cache
    self._moments, self._stride = frechet.Moments(dimension), stride
    self._windows: list[frechet.Moments] = []
    self._curves: dict[str, list] = {}

  @property
  def samples(self) -> int:
    return self._moments.count

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """See `Metric`."""
    del name, image
    real = self._cache is not None and frames is clip.frames
    features = self._kept(frames) if real else self._features(frames)
    self._moments.update(features)
    window = np.arange(len(features)) * self._stride // WINDOW_FRAMES
    for index in np.unique(window):
      if index == len(self._windows):
        self._windows.append(frechet.Moments(self.dimension))
      self._windows[index].update(features[window == index])
    return {}

  def _kept(self, frames: np.ndarray) -> np.ndarray:
    """Features of ground truth, read from disk where they are."""
    content = hashlib.blake2b(np.ascontiguousarray(frames), digest_size=16)
    content.update(repr(frames.shape).encode())
    path = self._cache / f'{self.name}-{content.hexdigest()}.npy'
    if path.is_file():
      return np.load(path, allow_pickle=False)
    found = self._features(frames)
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    try:
      report.write_bytes(path, buffer.getvalue())
    except OSError as error:
      logging.warning('%s: features are not kept (%s)', path, error.strerror)
    return found

  def figures(self, truth: 'FeatureDistance') -> dict[str, float]:
    """See `Metric`; not a number for fewer than 2 samples."""
    if min(self.samples, truth.samples) < 2:
      return {self.name: np.nan}
    real = truth._moments
    known = [(i, w) for i, w in enumerate(self._windows) if w.count >= 2]
    if len(known) > 1:
      seconds = WINDOW_FRAMES / FPS
      self._curves = {
          f'{self.name}_times': [(i + 0.5) * seconds for i, _ in known],
          self.name: [frechet.distance(w, real) for _, w in known],
          f'{self.name}_samples': [w.count for _, w in known],
      }
    return {self.name: frechet.distance(self._moments, real)}

  def curves(self) -> dict[str, list]:
    """Distance and samples by middle of the window in seconds."""
    return self._curves


class PerVideo:
  """A `Metric` that is a mean over videos."""

  dimension = 0
  warnings = ()

  def __init__(
      self,
      name: str,
      description: str,
      measure: Callable[
          [np.ndarray, types.Clip, np.ndarray], dict[str, float]
      ],
  ):
    """Args: measure: (frames, clip, image) -> figures of one video."""
    self.name, self.description = name, description
    self._measure = measure
    self._rows: list[dict[str, float]] = []

  @property
  def samples(self) -> int:
    return len(self._rows)

  def update(
      self, name: str, frames: np.ndarray, clip: types.Clip, image: np.ndarray
  ) -> dict[str, float]:
    """See `Metric`."""
    del name
    self._rows.append(self._measure(frames, clip, image))
    return dict(self._rows[-1])

  def figures(self, truth: 'PerVideo') -> dict[str, float]:
    """See `Metric`."""
    del truth
    return {
        key: float(np.mean([row[key] for row in self._rows]))
        for key in self._rows[0]
    }

  def curves(self) -> dict[str, list]:
    """See `Metric`."""
    return {}


def in_batches(features: Features, size: int = _BATCH) -> Features:
  """The same function, at most `size` rows at once."""
  return lambda x: np.concatenate(
      [features(x[i : i + size]) for i in range(0, len(x), size)]
  )


def clip_features(features: Features, frames: np.ndarray) -> np.ndarray:
  """[N // 16, d] features of a video's windows of CLIP_FRAMES, end to end.

  Raises:
    ValueError: a video shorter than one window.
  """
  count = len(frames) // CLIP_FRAMES
  if not count:
    raise ValueError(
        f'{len(frames)} frames: FVD needs at least {CLIP_FRAMES}'
    )
  clips = frames[: count * CLIP_FRAMES]
  return features(clips.reshape(count, CLIP_FRAMES, *frames.shape[1:]))


def _cache_of(cache: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Folder below `cache` for the features of one network's file."""
  return cache / weights.digest(path)[:16]


def _fid(files, cache) -> Callable[[], metric_lib.Metric]:
  path = files[weights.INCEPTION.name]
  features, kept = torch_networks.inception(path), _cache_of(cache, path)
  text = 'all frames, Inception of 2015-12-05 by torch-fidelity, 2048 features'
  return lambda: FeatureDistance('fid', text, 2048, in_batches(features), kept)


def _fvd(files, cache) -> Callable[[], metric_lib.Metric]:
  path = files[weights.I3D.name]
  network = in_batches(torch_networks.i3d(path), 2)
  kept = _cache_of(cache, path)
  features = functools.partial(clip_features, network)
  text = (
      f'all windows of {CLIP_FRAMES} frames end to end, so N is the number of'
      f' windows (StyleGAN-V itself: 2048 random clips of {CLIP_FRAMES}), I3D of'
      ' StyleGAN-V, 400 features'
  )
  return lambda: FeatureDistance(
      'fvd', text, 400, features, kept, CLIP_FRAMES
  )


def measure_sync(
    network: sync_confidence.SyncNet, detect: faces.Detect,
    frames: np.ndarray, clip: types.Clip, image: np.ndarray,
) -> dict[str, float]:  # pyformat: disable
  """Sync-C and Sync-D of one video."""
  del image
  crops = faces.sync_crops(frames, faces.track(frames, detect))
  found = network.measure(crops, clip.waveform)
  return {
      'sync_c': found.confidence,
      'sync_d': found.distance,
      'sync_offset': float(found.offset),
  }


def _sync(files, cache) -> Callable[[], metric_lib.Metric]:
  del cache
  measure = functools.partial(
      measure_sync,
      sync_confidence.load(files[weights.SYNCNET.name]),
      faces.yunet(files[weights.FACES.name]),
  )
  text = (
      'SyncNet v2, 224x224 crops of a YuNet face track (the original: S3FD),'
      f' 5-frame windows, lags to {sync_confidence.VSHIFT}, median - min'
  )
  return lambda: PerVideo('sync', text, measure)


def _takes_crops(shape: Sequence[int | str | None]) -> bool:
  """Whether it is [n, 3, 112, 112], as far as its sizes are fixed."""
  wanted = (None, 3, 112, 112)
  return len(shape) == 4 and all(
      size == want or not isinstance(size, int)
      for size, want in zip(shape, wanted)
  )


def embedder(path: str | os.PathLike) -> Features:
  """ArcFace embeddings [n, E] of crops [n, 112, 112, 3] uint8 RGB.

  Raises:
    ModuleNotFoundError: onnxruntime is missing.
    ValueError: a damaged file, or another network.
  """
  try:
    import onnxruntime  # pylint: disable=import-outside-toplevel
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'ArcFace needs onnxruntime: pip install'
        " -e '.[eval]'"
    ) from error
  try:
    session = onnxruntime.InferenceSession(
        os.fspath(path), providers=['CPUExecutionProvider']
    )
  except Exception as error:  # Its classes have no common base of their own.
    raise ValueError(f'{path}: not a network for onnxruntime: {error}') from error
  given = {x.name: x.shape for x in session.get_inputs()}
  name, *others = given
  if others or not _takes_crops(given[name]):
    raise ValueError(
        f'{path}: inputs {given}; expected one of [n, 3, 112, 112]'
    )

  def embed(crops: np.ndarray) -> np.ndarray:
    x = crops.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1.0
    return session.run(None, {name: x})[0]

  return in_batches(embed)


def measure_identity(
    embed: Features, detect: faces.Detect,
    frames: np.ndarray, clip: types.Clip, image: np.ndarray,
) -> dict[str, float]:  # pyformat: disable
  """Mean similarity of every frame's face to the identity reference's."""
  del clip
  found = faces.track(frames, detect)
  own = faces.track([image], detect)
  crop = lambda frame, points: faces.arc_crop(frame, points)
  crops = np.stack([crop(*pair) for pair in zip(frames, found.points)])
  reference = embed(crop(image, own.points[0])[None])[0]
  return {'arcface': float(identity.similarity(embed(crops), reference).mean())}


def _arcface(files, cache) -> Callable[[], metric_lib.Metric]:
  del cache
  measure = functools.partial(
      measure_identity,
      embedder(files[weights.ARCFACE.name]),
      faces.yunet(files[weights.FACES.name]),
  )
  text = 'cosine of every frame to the identity reference, ArcFace w600k_r50'
  return lambda: PerVideo('arcface', text, measure)


def _lpips(files, cache) -> Callable[[], metric_lib.Metric]:
  del cache
  distance = torch_networks.lpips(
      files[weights.ALEXNET.name], files[weights.LPIPS.name]
  )

  def measure(frames, clip, image) -> dict[str, float]:
    del image
    if frames is clip.frames:  # Ground truth.
      return {'lpips': 0.0}
    pairs = frames[::LPIPS_EVERY], clip.frames[::LPIPS_EVERY]
    values = [
        distance(*(side[i : i + _BATCH] for side in pairs))
        for i in range(0, len(pairs[0]), _BATCH)
    ]
    return {'lpips': float(np.concatenate(values).mean())}

  text = f'LPIPS 0.1 on AlexNet, one frame in {LPIPS_EVERY}, against its own'
  return lambda: PerVideo('lpips', text, measure)


def _blinks(files, cache) -> Callable[[], metric_lib.Metric]:
  del cache
  look = landmarks.finder(landmarks.load(files[weights.LANDMARKS.name]))
  detect = faces.yunet(files[weights.FACES.name])
  return lambda: blinks.Blinks(look, detect)


_LOADERS = {
    'fid': _fid, 'fvd': _fvd, 'sync': _sync, 'arcface': _arcface,
    'lpips': _lpips, 'blinks': _blinks,
}  # pyformat: disable


def _marked(
    make: Callable[[], metric_lib.Metric], lines: Sequence[str]
) -> Callable[[], metric_lib.Metric]:
  """The same factory, of metrics that say so of files which are not the
  published ones."""
  if not lines:
    return make

  def marked() -> metric_lib.Metric:
    metric = make()
    metric.description = f'{metric.description}; not comparable: ' + '; '.join(
        lines
    )
    metric.warnings = tuple(f'{metric.name}: {line}' for line in lines)
    return metric

  return marked


def load(
    names: Sequence[str], folder: str | os.PathLike | None
) -> dict[str, Callable[[], metric_lib.Metric]]:
  """Factories of the named metrics; each network is loaded once.

  Args:
    names: some of METRICS.
    folder: with the files of evals/weights.py; features of ground truth are
      kept in REAL below it, by the content of the network's file.

  Raises:
    FileNotFoundError: files are missing; all of them are named.
    ModuleNotFoundError: a package of the extra [eval] is missing.
    ValueError: a file of another network.
  """
  files = weights.find(names, folder)
  cache = pathlib.Path(folder) / REAL if folder else None
  return {
      name: _marked(_LOADERS[name](files, cache), weights.others(name, files))
      for name in names
  }
