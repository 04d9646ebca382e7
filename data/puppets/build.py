"""Writes a puppets dataset with several processes; can be interrupted.

Layout: one folder with dataset_info.json, features.json, recipe.json and
puppets-SPLIT.array_record-XXXXX-of-YYYYY. Shards that exist are kept, so a
second run goes on where the first stopped. The training split comes first and
can be read as soon as it is complete.
"""

import dataclasses
import itertools
import json
import multiprocessing
import os
import pathlib

from absl import logging
from array_record.python import array_record_module
import cv2
import tensorflow_datasets as tfds
import tqdm

from data.puppets import puppets_dataset_builder as puppets
from data.puppets import speech

CLIPS_PER_SHARD = 50
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def shard_name(split: str, shard: int, shards: int) -> str:
  """File name of a shard."""
  return f'puppets-{split}.array_record-{shard:05d}-of-{shards:05d}'


def shard_lengths(clips: int) -> list[int]:
  """Clips per shard: all CLIPS_PER_SHARD but the last."""
  full, rest = divmod(clips, CLIPS_PER_SHARD)
  return [CLIPS_PER_SHARD] * full + [rest] * (rest > 0)


def _serialize(job: tuple[puppets.Recipe, str, int]) -> bytes:
  recipe, split, index = job
  return puppets.features().serialize_example(
      puppets.make_example(recipe, split, index))


def _check_recipe(folder: pathlib.Path, recipe: puppets.Recipe) -> None:
  """Remembers the recipe; raises if the folder was begun with another."""
  wanted = {'version': puppets.VERSION, **dataclasses.asdict(recipe)}
  path = folder / 'recipe.json'
  if path.exists():
    found = json.loads(path.read_text())
    if found != wanted:
      differ = sorted(k for k in wanted if found.get(k) != wanted[k])
      raise ValueError(
          f'{folder} holds puppets of another recipe: '
          + ', '.join(f'{k}={found.get(k)}' for k in differ) + '; expected '
          + ', '.join(f'{k}={wanted[k]}' for k in differ)
          + ' or another --out')
    return
  others = sorted(p.name for p in folder.iterdir())
  if others:
    raise ValueError(f'{folder} is not empty ({others[0]}, ...); expected a '
                     'new or empty folder, or one begun by this command')
  _write(path, json.dumps(wanted, indent=2) + '\n')


def _write(path: pathlib.Path, text: str) -> None:
  temporary = path.with_name(path.name + '.part')
  temporary.write_text(text)
  os.replace(temporary, path)


def _write_shard(path: pathlib.Path, examples, count: int, bar) -> None:
  temporary = path.with_name(path.name + '.part')
  # Groups of one record: random access reads nothing else.
  writer = array_record_module.ArrayRecordWriter(str(temporary),
                                                 'group_size:1')
  for data in itertools.islice(examples, count):
    writer.write(data)
    bar.update(1)
  writer.close()
  os.replace(temporary, path)


def _write_metadata(folder: pathlib.Path, recipe: puppets.Recipe,
                    splits: list[str]) -> None:
  """dataset_info.json and features.json of the splits that are complete."""
  template = tfds.core.ShardedFileTemplate(
      template=_TEMPLATE, dataset_name='puppets', data_dir=folder,
      filetype_suffix='array_record')
  infos = []
  for split in splits:
    lengths = shard_lengths(recipe.clips(split))
    size = sum((folder / shard_name(split, i, len(lengths))).stat().st_size
               for i in range(len(lengths)))
    infos.append(tfds.core.SplitInfo(
        name=split, shard_lengths=lengths, num_bytes=size,
        filename_template=dataclasses.replace(template, split=split)))
  tfds.folder_dataset.write_metadata(
      data_dir=folder, features=puppets.features(), split_infos=infos,
      filename_template=template, description=puppets.DESCRIPTION,
      check_data=False)


def build(folder: str | os.PathLike[str], recipe: puppets.Recipe,
          workers: int = 2) -> dict[str, int]:
  """Writes the dataset of a recipe, or what is missing of it.

  Args:
    folder: is made if need be.
    recipe: what to build.
    workers: processes that render; 0 renders in this process.

  Returns:
    Clips per split.

  Raises:
    ValueError: for a folder with something else in it, or without espeak-ng.
    OSError: if the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  speech.synthesizer()  # missing extra: fail here, not in a worker
  folder.mkdir(parents=True, exist_ok=True)
  _check_recipe(folder, recipe)
  splits = [s for s in ('train', 'test') if recipe.clips(s)]
  total = sum(recipe.clips(split) for split in splits)
  context = multiprocessing.get_context('spawn')
  pool = context.Pool(workers, cv2.setNumThreads, (1,)) if workers else None
  try:
    with tqdm.tqdm(total=total, unit='clip', desc='puppets') as bar:
      for i, split in enumerate(splits):
        _build_split(folder, recipe, split, pool, bar)
        _write_metadata(folder, recipe, splits[:i + 1])
  finally:
    if pool is not None:
      pool.terminate()
      pool.join()
  logging.info('Wrote %d clips to %s', total, folder)
  return {split: recipe.clips(split) for split in splits}


def _build_split(folder, recipe, split, pool, bar) -> None:
  lengths = shard_lengths(recipe.clips(split))
  paths = [folder / shard_name(split, i, len(lengths))
           for i in range(len(lengths))]
  missing = [i for i, path in enumerate(paths) if not path.exists()]
  bar.update(sum(n for i, n in enumerate(lengths) if i not in missing))
  jobs = ((recipe, split, i * CLIPS_PER_SHARD + k) for i in missing
          for k in range(lengths[i]))
  examples = pool.imap(_serialize, jobs) if pool else map(_serialize, jobs)
  for i in missing:
    _write_shard(paths[i], examples, lengths[i], bar)
