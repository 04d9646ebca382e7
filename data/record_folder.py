"""The folder of a dataset that TFDS reads: ArrayRecord shards and metadata.

Layout: dataset_info.json, features.json, recipe.json and
NAME-SPLIT.array_record-XXXXX-of-YYYYY. The metadata come last: a folder
without them is unfinished and is not opened.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib

from array_record.python import array_record_module
import tensorflow_datasets as tfds

from asymtalker_jax import files

_LOCK = '.lock'
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def shard_name(name: str, split: str, shard: int, shards: int) -> str:
  """File name of a shard of the dataset `name`."""
  return f'{name}-{split}.array_record-{shard:05d}-of-{shards:05d}'


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Holds a folder against other builds, until the process ends at the latest.

  Raises:
    ValueError: another one is writing it.
  """
  with open(folder / _LOCK, 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
          f'{folder}: another process is building there; expected one at a time'
      ) from error
    yield


def check_recipe(folder: pathlib.Path, name: str,
                 wanted: Mapping[str, object]) -> None:
  """Remembers what a folder is built of.

  Args:
    folder: exists.
    name: of the dataset, for messages.
    wanted: JSON values.

  Raises:
    ValueError: the folder was begun with other values, or holds something else.
  """
  path = folder / 'recipe.json'
  if path.exists():
    found = json.loads(path.read_text())
    if found != wanted:
      differ = sorted(k for k in wanted if found.get(k) != wanted[k])
      raise ValueError(
          f'{folder} holds {name} of another recipe: '
          + ', '.join(f'{k}={found.get(k)}' for k in differ) + '; expected '
          + ', '.join(f'{k}={wanted[k]}' for k in differ)
          + ' or another --out')
    return
  others = sorted(p.name for p in folder.iterdir() if p.name != _LOCK)
  if others:
    raise ValueError(f'{folder} is not empty ({others[0]}, ...); expected a '
                     'new or empty folder, or one begun by this command')
  files.write(path, (json.dumps(wanted, indent=2) + '\n').encode())


def write_records(path: pathlib.Path, records: Iterable[bytes]) -> int:
  """Writes a file of records, whole or not at all; returns how many."""
  temporary = path.with_name(path.name + '.part')
  # Groups of one record: random access reads nothing else.
  writer = array_record_module.ArrayRecordWriter(str(temporary),
                                                 'group_size:1')
  count = 0
  try:
    for data in records:
      writer.write(data)
      count += 1
    writer.close()
    os.replace(temporary, path)
  finally:
    if writer.is_open():
      writer.close()
    temporary.unlink(missing_ok=True)
  return count


def write_metadata(folder: pathlib.Path, name: str, description: str,
                   features: tfds.features.FeaturesDict,
                   lengths: Mapping[str, Sequence[int]]) -> None:
  """Writes dataset_info.json and features.json of complete splits.

  Args:
    folder: with all the shards.
    name: of the dataset.
    description: what TFDS says about it.
    features: of an example.
    lengths: split -> examples per shard.
  """
  template = tfds.core.ShardedFileTemplate(
      template=_TEMPLATE, dataset_name=name, data_dir=folder,
      filetype_suffix='array_record')
  infos = []
  for split, counts in lengths.items():
    size = sum(
        (folder / shard_name(name, split, i, len(counts))).stat().st_size
        for i in range(len(counts)))
    infos.append(tfds.core.SplitInfo(
        name=split, shard_lengths=list(counts), num_bytes=size,
        filename_template=dataclasses.replace(template, split=split)))
  tfds.folder_dataset.write_metadata(
      data_dir=folder, features=features, split_infos=infos,
      filename_template=template, description=description, check_data=False)
