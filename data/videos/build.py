"""Writes a dataset of videos with several processes; can be interrupted.

Each part of the videos becomes parts/SPLIT-XXXXX.array_record and, when that
is complete, a .json with what became of each video. A second run goes on with
the parts that have no .json. When all have one, the record files are renamed to
shards and the metadata are written; report.json tells of every video.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent import futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib

from absl import logging
import tqdm

from asymtalker_jax import files
from asymtalker_jax.generate import portrait
from data import record_folder
from data import worker_pool
from data.videos import clip as clip_lib
from data.videos import people
from data.videos import videos_dataset_builder as videos_lib

NAME = 'videos'
MAX_SHARDS = 1000  # per split
LISTED = 20  # videos that a summary names; report.json has all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """Videos of one split that become one shard.

  Attributes:
    path: of its records; the outcome is beside it, with the suffix .json.
    split: 'train' or 'test'.
    videos: one or more.
  """

  path: pathlib.Path
  split: str
  videos: Sequence[people.Video]

  @property
  def report(self) -> pathlib.Path:
    """Exists when the part is complete."""
    return self.path.with_suffix('.json')

  @property
  def place(self) -> pathlib.Path:
    """Has the name of the video that a process is at."""
    return self.path.with_suffix('.at')

  def current(self) -> people.Video | None:
    """The video that a process is at, or was when it died."""
    if not self.place.exists():
      return None
    name = self.place.read_text()
    return next((v for v in self.videos if v.name == name), None)

  def outcomes(self) -> list[videos_lib.Outcome]:
    """What became of each video of a complete part."""
    return [videos_lib.Outcome(**values)
            for values in json.loads(self.report.read_text())]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """What a build came to.

  Attributes:
    clips: split -> clips.
    outcomes: one per video.
  """

  clips: Mapping[str, int]
  outcomes: Sequence[videos_lib.Outcome]

  @property
  def broken(self) -> int:
    """Files that cannot be read."""
    return sum(bool(o.broken) for o in self.outcomes)

  def text(self) -> str:
    """Counts, and the videos that gave no clip."""
    dropped = sum((collections.Counter(o.dropped) for o in self.outcomes),
                  collections.Counter())
    useless = [o for o in self.outcomes if not o.clips]
    lines = [f'{len(self.outcomes)} videos: {sum(self.clips.values())} clips, '
             f'{self.broken} broken files, {len(useless) - self.broken} other '
             'videos without a clip']
    lines += [f'  dropped {count}: {reason}'
              for reason, count in sorted(dropped.items())]
    lines += [f'  {o.video}: {o.broken or ", ".join(o.dropped)}'
              for o in useless[:LISTED]]
    if len(useless) > LISTED:
      lines.append(f'  ... and {len(useless) - LISTED} more, see report.json')
    return '\n'.join(lines)


def build(folder: str | os.PathLike[str], source: str | os.PathLike[str],
          recipe: videos_lib.Recipe, workers: int = 2,
          find_faces: clip_lib.FindFaces = portrait.find_faces) -> Summary:
  """Writes the dataset of a folder of videos, or what is missing of it.

  Args:
    folder: is made if need be.
    source: folder of videos, see `people.find_videos`.
    recipe: what to make of them.
    workers: processes that work; 0 works in this process.
    find_faces: of `portrait`.

  Raises:
    ValueError: for a folder with something else in it, videos that do not make
      two splits, or a split in which no clip is left.
    OSError: if the source cannot be read or the folder cannot be written.
  """
  folder = pathlib.Path(folder)
  videos = people.find_videos(source)
  folder.mkdir(parents=True, exist_ok=True)
  with record_folder.locked(folder):
    return _build(folder, videos, recipe, workers, find_faces)


def _build(folder, videos, recipe, workers, find_faces) -> Summary:
  """`build` of a folder that is ours."""
  record_folder.check_recipe(folder, NAME, {
      'version': videos_lib.VERSION, **dataclasses.asdict(recipe),
      'videos': len(videos), 'of': _checksum(videos)})
  (folder / 'parts').mkdir(exist_ok=True)
  parts = [part for split in people.SPLITS
           for part in _parts(folder, split, videos)]
  missing = [part for part in parts if not part.report.exists()]
  look = functools.partial(_examples_of, recipe, find_faces)
  with tqdm.tqdm(total=len(videos), unit='video', desc=NAME) as bar:
    bar.update(len(videos) - sum(len(part.videos) for part in missing))
    for outcomes in _run(look, missing, workers):
      bar.update(len(outcomes))
      for outcome in outcomes:
        if outcome.broken:
          logging.warning('%s: %s', outcome.video, outcome.broken)
  return _finish(folder, parts)


def _checksum(videos: Sequence[people.Video]) -> str:
  """Of names and sizes: another set of files is another dataset."""
  listing = [(v.name, v.split, v.path.stat().st_size) for v in videos]
  return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]


def _parts(folder: pathlib.Path, split: str,
           videos: Sequence[people.Video]) -> list[Part]:
  mine = [video for video in videos if video.split == split]
  each = -(-len(mine) // MAX_SHARDS)
  return [Part(path=folder / 'parts' / f'{split}-{i // each:05d}.array_record',
               split=split, videos=mine[i:i + each])
          for i in range(0, len(mine), each)]


# Of a video: its outcome, and serialised examples to be made one by one.
_Look = Callable[[people.Video], tuple[videos_lib.Outcome, Iterator[bytes]]]


def _run(look: _Look, parts: Sequence[Part], workers: int
         ) -> Iterator[list[videos_lib.Outcome]]:
  """Writes the parts; yields the outcomes of each, as they come."""
  if not workers:
    yield from (_write_part(look, frozenset(), part) for part in parts)
    return
  crashing: frozenset[str] = frozenset()
  while missing := [part for part in parts if not part.report.exists()]:
    pool = worker_pool.start(workers)
    try:
      write = functools.partial(_write_part, look, crashing)
      tasks = [pool.submit(write, part) for part in missing]
      for done in futures.as_completed(tasks):
        yield done.result()
    except futures.process.BrokenProcessPool as error:
      at = [video for part in missing if (video := part.current())]
      found = {video.name for video in at if _crashes(look, video)}
      if not found - crashing:
        raise ValueError(
            'a process died, perhaps for want of memory; it was at one of'
            f' {[video.name for video in at]}; run the command again to go on,'
            ' perhaps with fewer --workers') from error
      crashing |= found
    finally:
      pool.shutdown(cancel_futures=True)


def _crashes(look: _Look, video: people.Video) -> bool:
  """Whether a process that does nothing but read this video dies of it."""
  pool = worker_pool.start(1)
  try:
    pool.submit(_read, look, video).result()
  except futures.process.BrokenProcessPool:
    return True
  except Exception:  # pylint: disable=broad-except
    return False  # Which the build meets as well, and says.
  finally:
    pool.shutdown(cancel_futures=True)
  return False


def _read(look: _Look, video: people.Video) -> None:
  for _ in look(video)[1]:
    pass


def _examples_of(recipe: videos_lib.Recipe, find_faces: clip_lib.FindFaces,
                 video: people.Video
                 ) -> tuple[videos_lib.Outcome, Iterator[bytes]]:
  """The `_Look` of a recipe."""
  outcome, plans = videos_lib.look(video, recipe, find_faces)
  serialize = videos_lib.features().serialize_example
  return outcome, map(serialize, videos_lib.make_examples(video, plans, recipe))


def _write_part(look: _Look, crashing: Set[str],
                part: Part) -> list[videos_lib.Outcome]:
  """Writes the records and then the report of a part.

  Args:
    look: at a video.
    crashing: names of videos that are not to be read.
    part: to write.
  """
  outcomes = []

  def records():
    for video in part.videos:
      if video.name in crashing:
        outcomes.append(videos_lib.Outcome(
            video=video.name, broken='crashes the process that reads it'))
        continue
      part.place.write_text(video.name)
      outcome, examples = look(video)
      outcomes.append(outcome)
      yield from examples

  try:
    record_folder.write_records(part.path, records())
  finally:  # Not reached by a process that dies: it leaves where it was.
    part.place.unlink(missing_ok=True)
  files.write(part.report, json.dumps(
      [dataclasses.asdict(outcome) for outcome in outcomes]).encode())
  return outcomes


def _finish(folder: pathlib.Path, parts: Sequence[Part]) -> Summary:
  """Names the shards, writes metadata and report; may be done again."""
  outcomes = {part.path: part.outcomes() for part in parts}
  lengths = {}
  for split in people.SPLITS:
    counts = {part.path: sum(o.clips for o in outcomes[part.path])
              for part in parts if part.split == split}
    kept = [path for path, count in counts.items() if count]
    for i, path in enumerate(kept):
      if path.exists():
        os.replace(path, folder / record_folder.shard_name(
            NAME, split, i, len(kept)))
    for path in counts.keys() - set(kept):
      path.unlink(missing_ok=True)
    lengths[split] = [counts[path] for path in kept]
  summary = Summary(clips={split: sum(n) for split, n in lengths.items()},
                    outcomes=sum(outcomes.values(), []))
  files.write(folder / 'report.json', json.dumps(
      [dataclasses.asdict(o) for o in summary.outcomes], indent=1).encode())
  if not all(lengths.values()):
    raise ValueError(f'{folder}: no clip left in a split ({summary.clips}); '
                     f'{summary.text()}')
  record_folder.write_metadata(folder, NAME, videos_lib.DESCRIPTION,
                               videos_lib.features(), lengths)
  logging.info('Wrote %d clips to %s', sum(summary.clips.values()), folder)
  return summary
