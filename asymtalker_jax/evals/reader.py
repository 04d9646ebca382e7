"""The puppet reader as an instrument: load, save, read a stream of frames."""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
import itertools
import json
import os
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors_numpy
from safetensors import SafetensorError

from asymtalker_jax import bundle
from asymtalker_jax import types
from asymtalker_jax.models.metric import puppet_reader

BUNDLED = pathlib.Path(__file__).parent.parent / 'pretrained' / 'reader'
BATCH = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """What was read from the N frames of a video.

  Attributes:
    tracks: name -> [N] float32 in the units of the dataset.
    embedding: [N, E] float32 unit vectors of identity.
    features: [N, D] float32, for the Frechet distance.
  """

  tracks: dict[str, np.ndarray]
  embedding: np.ndarray
  features: np.ndarray


def save(
    folder: str | os.PathLike, config: dict, params: types.Params
) -> pathlib.Path:
  """Writes reader.json and reader.safetensors (float16) into a folder.

  Args:
    folder: made if it is not there.
    config: model config with track_mean and track_std.
    params: of the reader.

  Returns:
    The path of the weights.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  half = {k: np.asarray(v, np.float16) for k, v in bundle.flatten(params)}
  weights = folder / 'reader.safetensors'
  temporary = folder / '.reader.safetensors.part'
  # Not save_file: that makes files which only their owner may read.
  temporary.write_bytes(safetensors_numpy.save(half))
  os.replace(temporary, weights)
  temporary = folder / '.reader.json.part'
  temporary.write_text(json.dumps(config, indent=1) + '\n')
  os.replace(temporary, folder / 'reader.json')
  return weights


class Reader:
  """A loaded reader.

  Attributes:
    config: model config with the normalisation of the tracks.
  """

  def __init__(self, config: dict, params: types.Params):
    """Args: as `save`; parameters are kept as float32."""
    self.config = config
    self._params = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32), params
    )
    self._mean = np.asarray(config['track_mean'], np.float32)
    self._std = np.asarray(config['track_std'], np.float32)
    self._apply = jax.jit(
        lambda params, frames: puppet_reader.apply(
            config, params, frames.astype(jnp.float32) / 127.5 - 1.0
        )
    )

  def read_batch(self, frames: np.ndarray) -> dict[str, np.ndarray]:
    """'tracks' [n, tracks], 'embedding' [n, E], 'features' [n, D] of frames
    [n, H, W, 3] uint8, n <= BATCH; padded inside so that one shape compiles.

    Frames of another size are resized first: 64x64 puppets are read too.

    Raises:
      ValueError: frames that are not square RGB.
    """
    size = self.config['size']
    height, width = frames.shape[1:3]
    if height != width or frames.shape[3:] != (3,):
      raise ValueError(
          f'frames {frames.shape[1:]}: the puppet reader expects square RGB'
      )
    if height != size:
      method = cv2.INTER_AREA if height > size else cv2.INTER_CUBIC
      frames = np.stack(
          [cv2.resize(f, (size, size), interpolation=method) for f in frames]
      )
    count = len(frames)
    padded = np.zeros((BATCH, size, size, 3), np.uint8)
    padded[:count] = frames
    read = jax.device_get(self._apply(self._params, padded))
    read = {name: value[:count] for name, value in read.items()}
    read['tracks'] = read['tracks'] * self._std + self._mean
    return read

  def read(self, frames: Iterable[np.ndarray]) -> Reading:
    """Reads a video, frames [H, W, 3] uint8 one by one; memory holds one batch
    of frames only.

    Raises:
      ValueError: no frames, or frames of a wrong size.
    """
    parts = [self.read_batch(batch) for batch in batched(frames, BATCH)]
    if not parts:
      raise ValueError('a video of 0 frames: expected at least 1 to read')
    joined = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    names = self.config['tracks']
    return Reading(
        tracks={name: joined['tracks'][:, i] for i, name in enumerate(names)},
        embedding=joined['embedding'],
        features=joined['features'],
    )


def batched(frames: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
  """Stacks of up to `size` frames."""
  frames = iter(frames)
  while batch := list(itertools.islice(frames, size)):
    yield np.stack(batch)


def load(folder: str | os.PathLike = BUNDLED) -> Reader:
  """The reader of a folder written by `save`; the bundled one by default.

  Raises:
    FileNotFoundError: a missing file.
    ValueError: weights that do not fit the config.
  """
  folder = pathlib.Path(folder)
  for name in ('reader.json', 'reader.safetensors'):
    if not (folder / name).is_file():
      raise FileNotFoundError(f'{folder / name}: a puppet reader has this file')
  config = json.loads((folder / 'reader.json').read_text())
  try:
    flat = safetensors_numpy.load_file(folder / 'reader.safetensors')
  except SafetensorError as error:
    raise ValueError(f'{folder}/reader.safetensors: {error}') from error
  expected = jax.eval_shape(
      functools.partial(puppet_reader.init, config), jax.random.key(0)
  )
  shapes = {k: v.shape for k, v in bundle.flatten(expected)}
  found = {k: v.shape for k, v in flat.items()}
  if shapes != found:
    wrong = sorted(set(shapes.items()) ^ set(found.items()))
    raise ValueError(
        f'{folder}/reader.safetensors does not fit its config, e.g. {wrong[:3]}'
    )
  return Reader(config, bundle.unflatten(flat))
