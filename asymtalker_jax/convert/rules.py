"""Conversion tables: checkpoint keys <-> parameter paths, all accounted for.

A rule pairs two templates. `{name}` stands for one part of a key (no dot, no
slash), `{name:pattern}` for what the regular expression matches, and both
templates hold the same names, so that a rule reads in both directions:

  Rule('blocks.{i}.attn.{p:q|k}.weight', 'blocks[{i}]/attn/{p}/kernel', LINEAR)

`[{i}]` in a target says that the layers are stacked (`nn.scan`): the tensor is
slice i of the leading axis of `blocks/attn/{p}/kernel`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import re
from typing import Any

import numpy as np

from asymtalker_jax import tensor_file

Array = np.ndarray
_FIELD = re.compile(r'\{(\w+)(?::([^{}]*))?\}')
_STACKED = re.compile(r'\[(\d+)\]')


@dataclasses.dataclass(frozen=True)
class Transform:
  """A reversible change of layout.

  Attributes:
    forward: array in the checkpoint's layout -> array in ours.
    inverse: its inverse, exact.
  """

  forward: Callable[[Array], Array]
  inverse: Callable[[Array], Array]


def permute(*axes: int) -> Transform:
  """Transposition: axis j of ours is axis axes[j] of the checkpoint's."""
  inverse = tuple(int(i) for i in np.argsort(axes))
  return Transform(
      lambda x: np.transpose(x, axes), lambda x: np.transpose(x, inverse)
  )


def drop_unit_axes(leading: int, trailing: int) -> Transform:
  """Removes axes of size 1 from both ends, e.g. (0, 3): [C, 1, 1, 1] -> [C]."""

  def forward(x: Array) -> Array:
    end = x.ndim - trailing
    units = x.shape[:leading] + x.shape[end:]
    if leading > end or any(n != 1 for n in units):
      raise ValueError(
          f'shape {x.shape} does not have {leading} leading and {trailing} '
          'trailing axes of size 1'
      )
    return x.reshape(x.shape[leading:end])

  def inverse(x: Array) -> Array:
    return x.reshape((1,) * leading + x.shape + (1,) * trailing)

  return Transform(forward, inverse)


def chain(*transforms: Transform) -> Transform:
  """Transforms applied one after the other, the first one first."""
  return Transform(
      lambda x: functools.reduce(lambda y, t: t.forward(y), transforms, x),
      lambda x: functools.reduce(
          lambda y, t: t.inverse(y), reversed(transforms), x
      ),
  )


IDENTITY = Transform(lambda x: x, lambda x: x)
LINEAR = permute(1, 0)  # [out, in] -> [in, out]
CONV1D = permute(2, 1, 0)  # [out, in, k] -> [k, in, out]
CONV2D = permute(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
CONV3D = permute(2, 3, 4, 1, 0)  # [out, in, t, h, w] -> [t, h, w, in, out]
# Convolutions of kernel size 1 that we write as matrices.
POINTWISE2D = chain(drop_unit_axes(0, 2), LINEAR)  # [out, in, 1, 1]
POINTWISE3D = chain(drop_unit_axes(0, 3), LINEAR)  # [out, in, 1, 1, 1]


def _fields(template: str) -> list[str]:
  return [m[1] for m in _FIELD.finditer(template)]


def _pattern(template: str, patterns: Mapping[str, str]) -> re.Pattern[str]:
  parts, end = [], 0
  for field in _FIELD.finditer(template):
    parts.append(re.escape(template[end : field.start()]))
    parts.append(f'(?P<{field[1]}>{patterns[field[1]]})')
    end = field.end()
  return re.compile(''.join(parts) + re.escape(template[end:]))


def _fill(template: str, match: re.Match[str]) -> str:
  return _FIELD.sub(lambda field: match[field[1]], template)


@dataclasses.dataclass(frozen=True)
class Rule:
  """One line of a table, see the module's docstring.

  Attributes:
    source: template of the checkpoint's keys.
    target: template of '/'-joined parameter paths.
    transform: layout of the checkpoint -> ours.
  """

  source: str
  target: str
  transform: Transform = IDENTITY

  def __post_init__(self):
    names = _fields(self.source)
    if sorted(names) != sorted(_fields(self.target)):
      raise ValueError(
          f'rule {self.source!r} -> {self.target!r}: both sides need the same '
          f'fields once each, got {names} and {_fields(self.target)}'
      )

  @functools.cached_property
  def _compiled(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Regular expressions of source and target."""
    # A field's pattern may be written on either side.
    given = {}
    for template in (self.target, self.source):
      for field in _FIELD.finditer(template):
        given[field[1]] = field[2] or given.get(field[1]) or '[^./]+'
    return _pattern(self.source, given), _pattern(self.target, given)

  def target_of(self, key: str) -> str | None:
    """Path (with the slice in brackets) of a checkpoint key, None: no match."""
    match = self._compiled[0].fullmatch(key)
    return _fill(self.target, match) if match else None

  def source_of(self, path: str) -> str | None:
    """Checkpoint key of a path (with the slice in brackets), or None."""
    match = self._compiled[1].fullmatch(path)
    return _fill(self.source, match) if match else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """Everything about one checkpoint layout.

  Attributes:
    rules: exactly one of them must match each source key that is not ignored.
    ignore: regular expressions of source keys that have no counterpart.
    constants: path -> array for targets that the checkpoint does not hold.
  """

  rules: Sequence[Rule]
  ignore: Sequence[str] = ()
  constants: Mapping[str, Array] = dataclasses.field(default_factory=dict)


def flatten(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dict -> {'/'-joined path: leaf}, in the tree's order."""
  flat = {}
  for name, value in tree.items():
    path = f'{prefix}{name}'
    if isinstance(value, Mapping):
      flat.update(flatten(value, path + '/'))
    else:
      flat[path] = value
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Inverse of `flatten`."""
  tree = {}
  for path, value in flat.items():
    *parents, leaf = path.split('/')
    node = tree
    for name in parents:
      node = node.setdefault(name, {})
    node[leaf] = value
  return tree


def _split(target: str) -> tuple[str, int | None]:
  """'blocks[3]/kernel' -> ('blocks/kernel', 3); no brackets: None."""
  slots = _STACKED.findall(target)
  return _STACKED.sub('', target), int(slots[0]) if slots else None


@dataclasses.dataclass(frozen=True)
class _Source:
  """Where one target, or one slice of it, comes from."""

  key: str
  tensor: Any
  transform: Transform = IDENTITY

  @property
  def shape(self) -> tuple[int, ...]:
    """Of what `read` gives; nothing is read."""
    blank = np.broadcast_to(np.zeros((), np.bool_), np.shape(self.tensor))
    return self.transform.forward(blank).shape

  def read(self) -> Array:
    """The array in our layout."""
    return self.transform.forward(np.asarray(self.tensor))


class _Filling:
  """Which source each target takes, and what went wrong."""

  def __init__(self, targets: Mapping[str, Any]):
    self.targets = targets
    self.filled: dict[tuple[str, int | None], _Source] = {}
    self.problems: list[str] = []

  def put(self, target: str, source: _Source):
    """Notes the source of one target, or why it has no place."""
    path, slot = _split(target)
    key, wanted = source.key, self.targets.get(path)
    if wanted is None:
      self.problems.append(f'no target: {key} -> {target} is not a parameter')
      return
    count = None if slot is None else wanted.shape[0]
    shape = tuple(wanted.shape if slot is None else wanted.shape[1:])
    if (path, slot) in self.filled:
      other = self.filled[path, slot].key
      self.problems.append(f'filled twice: {target} by {other} and {key}')
      return
    self.filled[path, slot] = source
    try:
      found = source.shape
    except ValueError as error:
      self.problems.append(f'wrong shape: {key} -> {target}: {error}')
      return
    if slot is not None and slot >= count:
      self.problems.append(f'no target: {key} -> {target} of {count} slices')
    elif found != shape:
      self.problems.append(
          f'wrong shape: {key} -> {target} is {found} instead of {shape}'
      )

  def note_unfilled(self):
    """Notes every target, or slice of one, that has no source."""
    for path, wanted in self.targets.items():
      slots = [slot for p, slot in self.filled if p == path]
      if None in slots:
        continue
      missing = sorted(set(range(wanted.shape[0])) - set(slots)) if slots else 0
      if missing == 0:
        self.problems.append(f'not in the checkpoint: {path}')
      elif missing:
        self.problems.append(f'not in the checkpoint: {path} slices {missing}')

  def read(self, path: str) -> Array:
    """The array of one target, in its dtype."""
    wanted = self.targets[path]
    if (path, None) in self.filled:
      return np.asarray(self.filled[path, None].read(), wanted.dtype)
    array = np.empty(wanted.shape, wanted.dtype)
    for slot in range(len(array)):
      array[slot] = self.filled[path, slot].read()
    return array


def plan(
    tensors: Mapping[str, Any], table: Table, targets: Mapping[str, Any]
) -> dict[str, tensor_file.Tensor]:
  """Parameters from a checkpoint, each made when it is asked for.

  Args:
    tensors: checkpoint key -> array, or what NumPy can make one of; only the
      shapes are read here.
    table: layout of the checkpoint.
    targets: nested dict of what has to be filled: anything with shape and
      dtype, such as the `jax.eval_shape` of an init.

  Returns:
    '/'-joined path -> tensor of the target's shape and dtype.

  Raises:
    ValueError: some key has no rule or no target, some target no key, or a
      shape differs; the message lists all of them.
  """
  filling = _Filling(flatten(targets))
  for key, tensor in tensors.items():
    if ignored(table, key):
      continue
    found = [(r, t) for r in table.rules if (t := r.target_of(key)) is not None]
    if not found:
      filling.problems.append(f'no rule: {key} {np.shape(tensor)}')
    elif len(found) > 1:
      names = ', '.join(target for _, target in found)
      filling.problems.append(f'more than one rule: {key} -> {names}')
    else:
      rule, target = found[0]
      filling.put(target, _Source(key, tensor, rule.transform))
  for path, value in table.constants.items():
    filling.put(path, _Source('a constant of the table', np.asarray(value)))
  filling.note_unfilled()
  if filling.problems:
    raise ValueError(
        f'{len(filling.problems)} mismatches between checkpoint and model:\n  '
        + '\n  '.join(filling.problems)
    )
  return {
      path: tensor_file.Tensor(
          tuple(wanted.shape), np.dtype(wanted.dtype),
          functools.partial(filling.read, path),
      )
      for path, wanted in filling.targets.items()
  }  # pyformat: disable


def ignored(table: Table, key: str) -> bool:
  """Whether the checkpoint key has no counterpart in our parameters."""
  return any(re.fullmatch(pattern, key) for pattern in table.ignore)


def convert(
    tensors: Mapping[str, Any], table: Table, targets: Mapping[str, Any]
) -> dict[str, Any]:
  """`plan`, carried out: nested dict like `targets` of NumPy arrays."""
  found = plan(tensors, table, targets)
  return unflatten({path: np.asarray(leaf) for path, leaf in found.items()})


def _pieces(
    params: Mapping[str, Any], table: Table
) -> Iterator[tuple[str, str, Any, int | None]]:
  """(path, the same with its slice in brackets, array, slice) for each rule."""
  stacks = {r.target.split('[')[0] for r in table.rules if '[' in r.target}
  for path, value in params.items():
    stack = next((s for s in stacks if path.startswith(s + '/')), None)
    if stack is None:
      yield path, path, value, None
      continue
    for slot in range(value.shape[0]):
      yield path, f'{stack}[{slot}]{path[len(stack):]}', value, slot


def _exported(value: Any, slot: int | None, transform: Transform):
  """One tensor of the checkpoint, made when it is asked for."""
  shape = tuple(value.shape if slot is None else value.shape[1:])
  blank = np.broadcast_to(np.zeros((), np.bool_), shape)

  def read() -> Array:
    array = np.asarray(value)
    array = array if slot is None else array[slot]
    return np.asarray(transform.inverse(array), order='C')

  shape = transform.inverse(blank).shape
  return tensor_file.Tensor(shape, np.dtype(value.dtype), read)


def plan_export(
    params: Mapping[str, Any], table: Table
) -> dict[str, tensor_file.Tensor]:
  """Checkpoint tensors from parameters: the inverse of `plan`.

  Args:
    params: nested dict of arrays, or of what NumPy can make one of.
    table: layout of the checkpoint to write. What it ignores is not written.

  Returns:
    Checkpoint key -> tensor, contiguous.

  Raises:
    ValueError: a parameter has no rule or several, or is not what the layout
      takes for granted; the message lists all.
  """
  tensors, problems = {}, []
  for path, target, value, slot in _pieces(flatten(params), table):
    if path in table.constants:
      if not np.array_equal(np.asarray(value), table.constants[path]):
        problems.append(f'{path} -> other values are fixed in this layout')
      continue
    found = [(r, k) for r in table.rules if (k := r.source_of(target))]
    if len(found) != 1:
      keys = ', '.join(key for _, key in found) or 'no rule'
      problems.append(f'{target} -> {keys}')
      continue
    rule, key = found[0]
    tensors[key] = _exported(value, slot, rule.transform)
  if problems:
    raise ValueError(
        f'{len(problems)} parameters without exactly one rule:\n  '
        + '\n  '.join(problems)
    )
  return tensors


def export(params: Mapping[str, Any], table: Table) -> dict[str, Array]:
  """`plan_export`, carried out: bit for bit what `convert` was given."""
  return {k: np.asarray(v) for k, v in plan_export(params, table).items()}
