"""Which videos a folder holds, whom each shows, and who is in which split."""

import dataclasses
import hashlib
import os
import pathlib

SUFFIXES = ('.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4',
            '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm', '.wmv')
SPLITS = ('train', 'test')
TEST_SHARE = 10  # one person in so many is in the split test


@dataclasses.dataclass(frozen=True, kw_only=True)
class Video:
  """One file.

  Attributes:
    path: where it is.
    name: the same below the source folder, with slashes.
    person: whom it shows.
    split: 'train' or 'test'.
  """

  path: pathlib.Path
  name: str
  person: str
  split: str

  @property
  def identity(self) -> int:
    """Number of the person, the same in every build; non-negative int64."""
    return _number(self.person)


def find_videos(source: str | os.PathLike[str]) -> list[Video]:
  """The videos below a folder, sorted by name.

  SOURCE/PERSON/.../x.mp4 shows PERSON, SOURCE/x.mp4 shows x. A checksum of the
  person decides on the split, so that a new person moves nobody. If SOURCE has
  the folders train and test, they are the splits, with the persons below.

  Args:
    source: folder; files with other endings than SUFFIXES are passed over.

  Raises:
    FileNotFoundError: no such folder.
    ValueError: a split without a video, or a person in both.
  """
  source = pathlib.Path(source)
  if not source.is_dir():
    raise FileNotFoundError(f'{source}: no such folder; expected one of videos')
  has_splits = any((source / split).is_dir() for split in SPLITS)
  videos = []
  for path in sorted(source.rglob('*')):
    if not path.is_file() or path.name[0] == '.' or (
        path.suffix.lower() not in SUFFIXES):
      continue
    *folders, _ = path.relative_to(source).parts
    split = (folders.pop(0) if folders else '.') if has_splits else None
    person = folders[0] if folders else path.stem
    videos.append(Video(
        path=path, name=path.relative_to(source).as_posix(), person=person,
        split=split or SPLITS[_number(person) % TEST_SHARE == 0]))
  _check(source, videos)
  return videos


def _check(source: pathlib.Path, videos: list[Video]) -> None:
  who = {s: {v.person for v in videos if v.split == s} for s in SPLITS}
  if stray := {v.split for v in videos} - set(SPLITS):
    raise ValueError(f'{source} has a folder of a split, and videos in '
                     f'{sorted(stray)}; expected all in {list(SPLITS)}')
  if both := who['train'] & who['test']:
    raise ValueError(f'{source}: {sorted(both)[0]!r} is in train and in test; '
                     'expected each person in one of them')
  if not who['train'] or not who['test']:
    raise ValueError(
        f'{source}: {len(videos)} videos ({", ".join(SUFFIXES)}), '
        f'{len(who["train"])} persons in train, {len(who["test"])} in test; '
        'expected at least one each; with few persons, say who is where by '
        'the folders train and test')


def _number(person: str) -> int:
  digest = hashlib.sha256(person.encode()).digest()
  return int.from_bytes(digest[:8]) >> 1
