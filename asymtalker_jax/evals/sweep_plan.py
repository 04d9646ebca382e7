"""A sweep from its config: stages that all share, and points of stages.

A stage is a command of `asymtalker` with names of stages in braces, which stand
for their folders, and `{seed}`. An arm adds words to stages, a point is an arm
with a seed, and the folder of everything follows from its name:

  OUT/shared/STAGE            made once, also for other sweeps in OUT
  OUT/SWEEP/ARM-SEED/STAGE    of one point; its last stage is an evaluation
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import string
from typing import Any

from asymtalker_jax.evals import reader
from asymtalker_jax.evals import report

KEYS = ('name', 'seeds', 'shared', 'stages', 'arms', 'figures')
BETTER = ('lower', 'higher', 'near 1', 'near 0')
_CONFIG = '--config='
_NAME = re.compile(r'[a-z0-9][a-z0-9_.]*')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One command and where it writes.

  Attributes:
    name: of the stage.
    words: of the command, after `asymtalker`.
    folder: that it makes.
    reads: folders of the stages that it names.
  """

  name: str
  words: tuple[str, ...]
  folder: pathlib.Path
  reads: tuple[pathlib.Path, ...] = ()

  @property
  def command(self) -> str:
    """For a shell."""
    return 'asymtalker ' + shlex.join(self.words)

  @property
  def _note(self) -> pathlib.Path:
    """Written when the command has ended well."""
    return _note_beside(self.folder)

  @property
  def _spent(self) -> pathlib.Path:
    """What starts of the command have taken that have not ended it yet."""
    return self.folder.with_name(f'{self.name}.spent.json')

  def inputs(self) -> dict[str, str]:
    """SHA-256 of what the command reads: the values of its config, the bundled
    reader of an evaluation, and the notes of the stages that it names, which
    differ each time that one is made."""
    notes = [_note_beside(folder) for folder in self.reads]
    contents = {n.name: n.read_bytes() for n in notes if n.is_file()}
    for word in self.words:
      path, _, size = word.removeprefix(_CONFIG).partition(':')
      # Where there is no such file the command says so.
      if word.startswith(_CONFIG) and os.path.isfile(path):
        contents[os.path.basename(path)] = _values(path, size).encode()
    if self.words[0] == 'evaluate':
      for path in sorted(reader.BUNDLED.glob('reader.*')):
        contents[path.name] = path.read_bytes()
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in contents.items()
    }

  def cost(self) -> dict[str, float] | None:
    """What a finished stage took, all its starts together; None: not finished.

    Raises:
      ValueError: the folder was made by another command, or from other files.
    """
    if not self._note.is_file():
      return None
    found = json.loads(self._note.read_text())
    if found['command'] != self.command:
      raise ValueError(
          f'{self.folder}: was made by `{found["command"]}`, this sweep says'
          f' `{self.command}`; expected another --out'
      )
    before, now = found.get('inputs', {}), self.inputs()
    changed = sorted(k for k in before | now if before.get(k) != now.get(k))
    if changed:
      raise ValueError(
          f'{self.folder}: was made from other contents of {changed}; expected'
          ' another --out'
      )
    return found['cost']

  def spent(self) -> dict[str, float]:
    """What starts have taken that have not ended the command."""
    if not self._spent.is_file():
      return {'wall_s': 0.0, 'processor_s': 0.0}
    return json.loads(self._spent.read_text())

  def spend(self, cost: Mapping[str, float]) -> None:
    """Notes what the starts so far have taken; see `spent`."""
    report.write_json(self._spent, dict(cost))

  def finish(
      self, cost: Mapping[str, float], inputs: Mapping[str, str]
  ) -> None:
    """Notes that the command has ended well, what all its starts took, and
    its `inputs` when it was started."""
    note = {'command': self.command, 'inputs': dict(inputs), 'cost': dict(cost)}
    report.write_json(self._note, note)
    self._spent.unlink(missing_ok=True)


def _note_beside(folder: pathlib.Path) -> pathlib.Path:
  """Of the stage that makes the folder."""
  return folder.with_name(f'{folder.name}.done.json')


def _values(path: str, size: str) -> str:
  """JSON of a config file's values at a size; '' is the file's own choice."""
  spec = importlib.util.spec_from_file_location('config_of_a_stage', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config(*([size] if size else []))
  return config.copy_and_resolve_references().to_json(sort_keys=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """One arm with one seed.

  Attributes:
    index: in the sweep.
    arm: its name.
    seed: of training and generation.
    stages: in the order of their commands.
  """

  index: int
  arm: str
  seed: int
  stages: tuple[Stage, ...]

  @property
  def name(self) -> str:
    return f'{self.arm}-{self.seed}'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """A column of the table.

  Attributes:
    title: for people.
    better: one of BETTER.
    path: keys into metrics.json of a point's last stage, joined by '.'.
  """

  title: str
  better: str
  path: str

  def of(self, metrics: Mapping[str, Any]) -> float | None:
    """The value, None where it is not a number.

    Raises:
      ValueError: there is no such figure.
    """
    node: Any = metrics
    for key in self.path.split('.'):
      if not isinstance(node, Mapping) or key not in node:
        expected = sorted(node) if isinstance(node, Mapping) else 'a figure'
        raise ValueError(
            f'figure {self.path!r}: no {key!r}; expected one of {expected}'
        )
      node = node[key]
    return None if node is None else float(node)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """A whole sweep.

  Attributes:
    name: of the sweep.
    folder: of its points and of its table.
    shared: stages that all points need.
    points: seed by seed, so that every arm has a first result early.
    figures: columns; the first arm is what the others are compared with.
  """

  name: str
  folder: pathlib.Path
  shared: tuple[Stage, ...]
  points: tuple[Point, ...]
  figures: tuple[Figure, ...]


def make(config: Mapping[str, Any], out: str | os.PathLike) -> Plan:
  """The plan of a sweep's config.

  Args:
    config: plain values with KEYS: shared and stages are (name, command), arms
      are (name, (stage, words), ...), figures are (title, better, path).
    out: folder to write to.

  Raises:
    ValueError: other keys, names that are not lower case words or not
      different, an unknown stage, or nothing to do.
  """
  if set(config) != set(KEYS):
    raise ValueError(
        f'sweep with {sorted(config)}: expected exactly {sorted(KEYS)}'
    )
  for key in ('seeds', 'stages', 'arms', 'figures'):
    if not config[key]:
      raise ValueError(f'sweep with no {key}: expected at least one')
  names = [[name for name, *_ in config[key]] for key in ('shared', 'stages')]
  _check_names('stage', names[0] + names[1])
  _check_names('arm', [arm for arm, *_ in config['arms']])
  _check_names('sweep', [config['name']])
  root = pathlib.Path(out)
  folder = root / config['name']
  common = {name: root / 'shared' / name for name in names[0]}
  points = []
  for seed in config['seeds']:
    for arm, *changes in config['arms']:
      own = {name: folder / f'{arm}-{seed}' / name for name in names[1]}
      known = common | own | {'seed': seed}
      stages = _stages(config['stages'], own, known, _added(changes, own))
      points.append(
          Point(index=len(points), arm=arm, seed=seed, stages=stages)
      )
  return Plan(
      name=config['name'],
      folder=folder,
      shared=_stages(config['shared'], common, common, {}),
      points=tuple(points),
      figures=tuple(_figure(*row) for row in config['figures']),
  )


def _check_names(what: str, names: Sequence[str]) -> None:
  wrong = [n for n in names if not _NAME.fullmatch(n) or names.count(n) > 1]
  if wrong:
    raise ValueError(
        f'{what} {wrong[0]!r}: expected different names of lower case letters,'
        ' digits, "_" and "."'
    )


def _added(
    changes: Sequence[tuple[str, str]], stages: Mapping[str, pathlib.Path]
) -> dict[str, str]:
  """Stage -> words that an arm adds."""
  for name, _ in changes:
    if name not in stages:
      raise ValueError(
          f'arm that changes {name!r}: expected a stage of {sorted(stages)}'
      )
  return {name: ' ' + words for name, words in changes}


def _stages(commands, folders, known, added) -> tuple[Stage, ...]:
  """Commands with the braces filled in."""
  stages = []
  for name, command in commands:
    text = command + added.get(name, '')
    try:
      words = tuple(word.format_map(known) for word in shlex.split(text))
      fields = {field for _, field, *_ in string.Formatter().parse(text)}
    except (KeyError, IndexError, ValueError) as error:
      raise ValueError(
          f'stage {name!r}: `{text}` names {error}; expected some of'
          f' {sorted(known)}'
      ) from error
    reads = sorted((fields & set(known)) - {name, 'seed'})
    stages.append(Stage(
        name=name,
        words=words,
        folder=folders[name],
        reads=tuple(known[other] for other in reads),
    ))
  return tuple(stages)


def _figure(title: str, better: str, path: str) -> Figure:
  if better not in BETTER:
    raise ValueError(f'figure {title!r}: {better!r}; expected one of {BETTER}')
  return Figure(title=title, better=better, path=path)


def chosen(
    plan: Plan, point: int | None, points: str | None
) -> Sequence[Point]:
  """The points that a process runs: one, a range, none ('shared') or all.

  Raises:
    ValueError: both given, out of range or not of the form A-B.
  """
  count = len(plan.points)
  if point is not None and points is not None:
    raise ValueError(f'--point={point} and --points={points}: expected one')
  if points == 'shared':
    return ()
  first, last = 0, count - 1
  if point is not None:
    first = last = point
  elif points is not None:
    ends = points.split('-')
    if len(ends) != 2 or not all(end.isdigit() for end in ends):
      raise ValueError(f"--points={points}: expected A-B, or 'shared'")
    first, last = map(int, ends)
  if not 0 <= first <= last < count:
    raise ValueError(
        f'points {first} to {last}: sweep {plan.name} has points 0 to'
        f' {count - 1}'
    )
  return plan.points[first : last + 1]
