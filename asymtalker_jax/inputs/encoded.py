"""Encoded datasets: latents and audio features, computed once per clip.

A folder holds ArrayRecord shards and one JSON index per split. A record is the
safetensors serialisation of one example, so that reading it is a memory copy
and nothing in it can execute.

  train.json                            format, count, shards, shapes, meta
  train-00000-of-00012.array_record     64 examples, random access

Example of the method (K windows, R spare references, N frames):
  latents            [K, T, H, W, C] float16, window j starts at new_frames * j
  reference_latents  [R, T, H, W, C] float16, of frames outside all windows
  audio              [N, L, A] float16, N = K * new_frames + continuity_frames
  identity           [] int64
"""

import hashlib
import json
import os
from typing import Any, Callable, Iterable, Mapping, Sequence
import uuid

from absl import logging
from array_record.python import array_record_module
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from asymtalker_jax.inputs import open_files

FORMAT = 1
Example = Mapping[str, np.ndarray]


class EncodedDataset(Sequence):
  """Random access to the examples of one split.

  Attributes:
    directory: where it is.
    split: its name.
    meta: what the writer noted: variant, checkpoint of the VAE, geometry.
    shapes: field -> shape of the first example.
    fingerprint: changes with all of these and with the number of examples.
  """

  def __init__(self, directory: str, split: str):
    index = _read_index(directory, split)
    self.directory, self.split = directory, split
    self.meta = index['meta']
    self.shapes = {k: tuple(v) for k, v in index['shapes'].items()}
    text = json.dumps(index, sort_keys=True)
    self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
    self._count = index['count']
    self._per_shard = index['examples_per_shard']
    self._paths = [os.path.join(directory, name) for name in index['shards']]
    missing = [p for p in self._paths if not os.path.exists(p)]
    if missing:
      raise FileNotFoundError(
          f'{directory}: split {split!r} is incomplete, {len(missing)} of'
          f' {len(self._paths)} shards are missing, first {missing[0]}; run the'
          ' encoding again, it goes on where it stopped'
      )
    open_files.allow(len(self._paths), directory)
    self._readers = [None] * len(self._paths)

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """Returns one example; arrays as they were written."""
    index = range(self._count)[index]
    shard, row = divmod(index, self._per_shard)
    reader = self._readers[shard]
    if reader is None:
      # Two threads may both open it; they get equal readers and one stays.
      reader = array_record_module.ArrayRecordReader(
          self._paths[shard], options='readahead_buffer_size:0'
      )
      self._readers[shard] = reader
    try:
      return safetensors_numpy.load(reader.read([row])[0])
    except (SafetensorError, IndexError, RuntimeError) as error:
      raise ValueError(
          f'{self._paths[shard]}: record {row} cannot be read ({error}); delete'
          ' the file and run the encoding again'
      ) from error

  def __getstate__(self):
    return self.__dict__ | {'_readers': [None] * len(self._paths)}


def open_encoded(directory: str, split: str) -> EncodedDataset:
  """Returns the examples of a split, random access.

  Raises:
    FileNotFoundError: no such folder, split or shard.
    ValueError: the index is of another format.
  """
  return EncodedDataset(directory, split)


def write_encoded(
    directory: str,
    split: str,
    examples: Callable[[int], Iterable[Example]],
    count: int,
    *,
    meta: Mapping[str, Any],
    examples_per_shard: int = 64,
    worker: int = 0,
    workers: int = 1,
) -> int:
  """Writes the shards that are not there yet; returns how many it wrote.

  A shard gets its name when it is complete, so that a run that was killed
  goes on with the shard it was at.

  Args:
    directory: of the dataset, made if need be.
    split: 'train', 'validation', ...
    examples: start -> iterable of the examples start, start + 1, ...
    count: examples in the split, the same for all workers.
    meta: JSON values that identify how the examples are made; a folder that
      was begun with other values is not continued.
    examples_per_shard: in every shard but the last.
    worker: this worker writes the shards s with s % workers == worker.
    workers: how many write into the folder.

  Raises:
    ValueError: nothing to write, no such worker, the folder holds something
      else, or an example has other fields or shapes than the first one.
  """
  if count < 1 or examples_per_shard < 1:
    raise ValueError(
        f'{directory}: count={count}, examples_per_shard={examples_per_shard}:'
        ' expected both >= 1'
    )
  if not 0 <= worker < workers:
    raise ValueError(
        f'worker={worker} of workers={workers}: expected 0 <= worker < workers'
    )
  os.makedirs(directory, exist_ok=True)
  shards = -(-count // examples_per_shard)
  index = {
      'format': FORMAT,
      'count': count,
      'examples_per_shard': examples_per_shard,
      'meta': json.loads(json.dumps(dict(meta))),
      'shards': [_shard_name(split, s, shards) for s in range(shards)],
  }
  _check_same(directory, split, index)
  written = 0
  for shard in range(worker, shards, workers):
    path = os.path.join(directory, index['shards'][shard])
    if os.path.exists(path):
      continue
    start = shard * examples_per_shard
    size = min(examples_per_shard, count - start)
    _write_shard(directory, split, path, index, examples(start), size)
    written += 1
    logging.info('Wrote %s (%d of %d)', path, shard + 1, shards)
  return written


def _write_shard(directory, split, path, index, examples, size) -> None:
  """Writes `size` examples under a temporary name, then renames."""
  # Not by the number of the process: workers on other machines may share it.
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  writer = array_record_module.ArrayRecordWriter(
      temporary, 'group_size:1,uncompressed'
  )
  try:
    iterator = iter(examples)
    for row in range(size):
      example = next(iterator, None)
      if example is None:
        raise ValueError(f'{path}: only {row} examples came, expected {size}')
      arrays = {k: np.asarray(v, order='C') for k, v in example.items()}
      shapes = {k: list(v.shape) for k, v in sorted(arrays.items())}
      if index.setdefault('shapes', shapes) != shapes:
        raise ValueError(
            f'{path}: example {row} has {shapes}, expected {index["shapes"]}'
        )
      writer.write(safetensors_numpy.save(arrays))
    writer.close()
    _write_index(directory, split, index)
    os.replace(temporary, path)
  finally:
    if writer.is_open():
      writer.close()
    if os.path.exists(temporary):
      os.remove(temporary)


def _shard_name(split: str, shard: int, shards: int) -> str:
  return f'{split}-{shard:05d}-of-{shards:05d}.array_record'


def _index_path(directory: str, split: str) -> str:
  return os.path.join(directory, f'{split}.json')


def _write_index(directory: str, split: str, index: dict[str, Any]) -> None:
  path = _index_path(directory, split)
  if os.path.exists(path):
    return
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  with open(temporary, 'w') as f:
    json.dump(index, f, indent=1, sort_keys=True)
  os.replace(temporary, path)


def _check_same(directory: str, split: str, index: dict[str, Any]) -> None:
  """Raises if the folder was begun with other values; takes its shapes."""
  path = _index_path(directory, split)
  if not os.path.exists(path):
    return
  found = _read_index(directory, split)
  index['shapes'] = found['shapes']
  other = [k for k in index if found.get(k) != index[k]]
  if other:
    raise ValueError(
        f'{path} was written with other {", ".join(other)}: '
        + '; '.join(f'{k} {found.get(k)} there, {index[k]} now' for k in other
                    if k != 'shards')
        + '; use another folder or delete this one'
    )


def _read_index(directory: str, split: str) -> dict[str, Any]:
  path = _index_path(directory, split)
  if not os.path.exists(path):
    splits = []
    if os.path.isdir(directory):
      splits = sorted(
          n[:-5] for n in os.listdir(directory) if n.endswith('.json')
      )
    raise FileNotFoundError(
        f'{directory}: no encoded split {split!r}, found {splits}'
    )
  with open(path) as f:
    index = json.load(f)
  if index.get('format') != FORMAT:
    raise ValueError(
        f'{path}: format {index.get("format")!r}, expected {FORMAT}'
    )
  return index
