"""Writes a puppets dataset with several processes; can be interrupted.

Shards that exist are kept, so a second run goes on where the first stopped.
The training split comes first and can be read as soon as it is complete.
"""

import dataclasses
import itertools
import multiprocessing
import os
import pathlib

from absl import logging
import cv2
import tqdm

from data import record_folder
from data.puppets import puppets_dataset_builder as puppets
from data.puppets import speech

NAME = 'puppets'
CLIPS_PER_SHARD = 50


def shard_lengths(clips: int) -> list[int]:
  """Clips per shard: all CLIPS_PER_SHARD but the last."""
  full, rest = divmod(clips, CLIPS_PER_SHARD)
  return [CLIPS_PER_SHARD] * full + [rest] * (rest > 0)


def _serialize(job: tuple[puppets.Recipe, str, int]) -> bytes:
  recipe, split, index = job
  return puppets.features().serialize_example(
      puppets.make_example(recipe, split, index))


def _with_progress(records, bar):
  for data in records:
    yield data
    bar.update(1)


def _write_metadata(folder: pathlib.Path, recipe: puppets.Recipe,
                    splits: list[str]) -> None:
  """dataset_info.json and features.json of the splits that are complete."""
  record_folder.write_metadata(
      folder, NAME, puppets.DESCRIPTION, puppets.features(),
      {split: shard_lengths(recipe.clips(split)) for split in splits})


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
  record_folder.check_recipe(
      folder, NAME, {'version': puppets.VERSION, **dataclasses.asdict(recipe)})
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
  paths = [folder / record_folder.shard_name(NAME, split, i, len(lengths))
           for i in range(len(lengths))]
  missing = [i for i, path in enumerate(paths) if not path.exists()]
  bar.update(sum(n for i, n in enumerate(lengths) if i not in missing))
  jobs = ((recipe, split, i * CLIPS_PER_SHARD + k) for i in missing
          for k in range(lengths[i]))
  examples = pool.imap(_serialize, jobs) if pool else map(_serialize, jobs)
  for i in missing:
    shard = itertools.islice(examples, lengths[i])
    record_folder.write_records(paths[i], _with_progress(shard, bar))
