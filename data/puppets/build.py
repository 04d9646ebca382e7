"""Writes a puppets dataset with several processes; can be interrupted.

Shards that exist are kept, so a second run goes on where the first stopped.
The training split comes first and can be read as soon as it is complete.
"""

from concurrent import futures
import dataclasses
import itertools
import os
import pathlib

from absl import logging
import tqdm

from data import record_folder
from data import worker_pool
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
    ValueError: for a folder with something else in it, without espeak-ng, or
      where a worker died.
    OSError: if the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  speech.synthesizer()  # missing extra: fail here, not in a worker
  folder.mkdir(parents=True, exist_ok=True)
  with record_folder.locked(folder):
    return _build(folder, recipe, workers)


def _build(folder: pathlib.Path, recipe: puppets.Recipe,
           workers: int) -> dict[str, int]:
  """`build` of a folder that is ours."""
  record_folder.check_recipe(
      folder, NAME, {'version': puppets.VERSION, **dataclasses.asdict(recipe)})
  splits = [s for s in ('train', 'test') if recipe.clips(s)]
  total = sum(recipe.clips(split) for split in splits)
  pool = worker_pool.start(workers) if workers else None
  try:
    with tqdm.tqdm(total=total, unit='clip', desc='puppets') as bar:
      for i, split in enumerate(splits):
        _build_split(folder, recipe, split, pool, bar)
        # TFDS wants to be told of all splits that it finds files of.
        later = [path for name in splits[i + 1:]
                 for path in _shards(folder, recipe, name)]
        if not any(path.exists() for path in later):
          _write_metadata(folder, recipe, splits[:i + 1])
  except futures.process.BrokenProcessPool as error:
    raise ValueError(f'{folder}: a process that renders died, for want of'
                     ' memory; run the command again to go on, perhaps with'
                     ' fewer --workers') from error
  finally:
    if pool is not None:
      pool.shutdown(cancel_futures=True)
  logging.info('Wrote %d clips to %s', total, folder)
  return {split: recipe.clips(split) for split in splits}


def _shards(folder: pathlib.Path, recipe: puppets.Recipe,
            split: str) -> list[pathlib.Path]:
  count = len(shard_lengths(recipe.clips(split)))
  return [folder / record_folder.shard_name(NAME, split, i, count)
          for i in range(count)]


def _build_split(folder, recipe, split, pool, bar) -> None:
  lengths = shard_lengths(recipe.clips(split))
  paths = _shards(folder, recipe, split)
  missing = [i for i, path in enumerate(paths) if not path.exists()]
  bar.update(sum(n for i, n in enumerate(lengths) if i not in missing))
  jobs = ((recipe, split, i * CLIPS_PER_SHARD + k) for i in missing
          for k in range(lengths[i]))
  examples = pool.map(_serialize, jobs) if pool else map(_serialize, jobs)
  for i in missing:
    shard = itertools.islice(examples, lengths[i])
    record_folder.write_records(paths[i], _with_progress(shard, bar))
