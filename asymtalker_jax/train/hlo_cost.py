"""What one chip does in a compiled program, read from XLA's optimised text.

Loops are multiplied by their trips. Read are products (convolutions, into
which XLA for TPU turns matrix products, dots and attention kernels), bytes
between HBM and chip, and bytes that collectives send.
"""

from collections.abc import Iterator, Mapping
import collections
import dataclasses
import math
import re

from asymtalker_jax.train import needed_flops

COLLECTIVES = (
    'all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all',
    'collective-permute',
)
_BITS = {'pred': 8, 'c64': 64, 'c128': 128}
_SHAPE = re.compile(r'\b([a-z]\w*)\[([\d,]*)\](\{[^{}]*\})?')
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%([\w.\-]+) = (.*)$')
_OPCODE = re.compile(r'(?:^|[\s)}\]])([a-z][\w\-]*)\(')
# Matrix products in each of JAX's splash attention kernels.
_KERNEL_PRODUCTS = {'_fwd': 2, '_dq': 3, '_dkv': 5}
_FREE = frozenset((
    'parameter', 'tuple', 'get-tuple-element', 'bitcast', 'constant', 'while',
    'conditional', 'call', 'after-all', 'iota', 'partition-id', 'replica-id',
    'copy-done',
))


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array: its type, sizes, bytes, and whether it lies in HBM."""

  dtype: str
  sizes: tuple[int, ...]
  in_hbm: bool

  @property
  def bytes(self) -> int:
    digits = re.search(r'\d+', self.dtype)
    bits = _BITS.get(self.dtype) or int(digits[0] if digits else 0)
    return math.prod(self.sizes) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of the text."""

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  text: str  # From the opcode on.

  def called(self, attribute: str) -> str | None:
    """Name of the computation in an attribute such as `calls`."""
    found = re.search(attribute + r'=%?([\w.\-]+)', self.text)
    return found and found[1]


@dataclasses.dataclass
class Cost:
  """Work of one chip in one step.

  Attributes:
    flops: of products.
    hbm_bytes: read and written.
    sent: kind of collective -> bytes that the chip sends.
    count: kind of collective -> how many run.
  """

  flops: float = 0.0
  hbm_bytes: float = 0.0
  sent: collections.Counter = dataclasses.field(
      default_factory=collections.Counter
  )
  count: collections.Counter = dataclasses.field(
      default_factory=collections.Counter
  )

  def add(self, other: 'Cost', times: float = 1.0) -> None:
    """Adds another cost `times` times."""
    self.flops += times * other.flops
    self.hbm_bytes += times * other.hbm_bytes
    for mine, theirs in (
        (self.sent, other.sent), (self.count, other.count)
    ):
      for kind, value in theirs.items():
        mine[kind] += times * value


class Module:
  """A parsed program."""

  def __init__(self, text: str, trips: Mapping[str, float], chips: int):
    """Parses the text of `compiled.as_text()`.

    Args:
      text: of the optimised program.
      trips: see `needed_flops.loop_trips`.
      chips: in the mesh; the size of a group that lists no members.

    Raises:
      ValueError: no entry computation.
    """
    self._trips, self._chips = trips, chips
    self._computations, self._entry = _parse(text)
    if not self._entry:
      raise ValueError('program text without an ENTRY computation')
    self._done: dict[tuple[str, bool], Cost] = {}

  def cost(self) -> Cost:
    """Work of the entry computation."""
    return self._of(self._entry, fused=False)

  def largest(self, count: int = 8) -> list[tuple[str, int]]:
    """The largest arrays in HBM outside of fusions: (what it is, bytes)."""
    found = {}
    for name, computation in self._computations.items():
      if 'fused' in name or 'fusion' in name:
        continue
      for i in computation.values():
        if i.opcode in _FREE - {'parameter'}:
          continue
        for shape in i.shapes:
          if shape.in_hbm:
            what = f'{shape.dtype}{list(shape.sizes)} {_origin(i)}'
            found[what] = shape.bytes
    return sorted(found.items(), key=lambda item: -item[1])[:count]

  def _of(self, name: str, fused: bool) -> Cost:
    """Work of one computation; inside a fusion nothing goes to HBM."""
    if (name, fused) not in self._done:
      total = Cost()
      computation = self._computations[name]
      # Parts of a collective that is counted where it starts.
      later = 'async_collective_fusion' in name
      for instruction in computation.values():
        self._add(total, instruction, computation, fused, later)
      self._done[name, fused] = total
    return self._done[name, fused]

  def _add(self, total, i, computation, fused, later) -> None:
    """Adds one instruction and what it calls."""
    kind = i.opcode.removesuffix('-start')
    if kind in COLLECTIVES and not later:
      self._collective(total, i, computation, kind)
    elif i.opcode == 'convolution':
      total.flops += _convolution_flops(i, computation)
    elif i.opcode == 'dot':
      total.flops += _dot_flops(i, computation)
    elif i.opcode == 'custom-call':
      total.flops += _kernel_flops(i, computation)
    elif i.opcode == 'while':
      total.add(self._of(i.called('body'), False), self._while_trips(i))
    elif i.opcode == 'conditional':
      branches = re.search(r'branch_computations=\{([^}]*)\}', i.text)
      names = (
          re.findall(r'%([\w.\-]+)', branches[1]) if branches
          else [i.called('true_computation'), i.called('false_computation')]
      )
      total.add(max((self._of(n, False) for n in names),
                    key=lambda c: c.flops + c.hbm_bytes))
    elif i.opcode in ('call', 'async-start'):
      total.add(self._of(i.called('to_apply') or i.called('calls'), fused))
    elif i.opcode == 'fusion':
      self._fusion(total, i)
    if not fused and i.opcode not in _FREE:
      total.hbm_bytes += self._hbm_bytes(i, computation)

  def _fusion(self, total, i) -> None:
    """Adds the products and collectives inside a fusion."""
    inside = Cost()
    inside.add(self._of(i.called('calls'), True))
    inside.hbm_bytes = 0.0
    if i.name.startswith('async-collective-done'):
      inside = Cost(flops=inside.flops)
    if 'all-reduce-scatter' in (i.called('calls') or ''):
      # An all-reduce of which each chip keeps a part.
      moved = inside.sent.pop('all-reduce', 0)
      inside.sent['reduce-scatter'] += moved / 2
      inside.count['reduce-scatter'] += inside.count.pop('all-reduce', 0)
    total.add(inside)

  def _collective(self, total, i, computation, kind) -> None:
    """Adds the bytes that one chip sends in a ring of its group."""
    group = _group_size(i.text, self._chips)
    size = sum(s.bytes for o in i.operands for s in computation[o].shapes)
    share = (group - 1) / group
    factor = {
        'all-gather': group - 1, 'all-reduce': 2 * share,
        'reduce-scatter': share, 'all-to-all': share,
    }.get(kind, 1)
    total.sent[kind] += factor * size
    total.count[kind] += 1

  def _while_trips(self, i: Instruction) -> float:
    """Trips of a loop: counted from 0 to a constant, or as `trips` says."""
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', i.text)
    if known:
      return float(known[1])
    condition = self._computations[i.called('condition')]
    for check in condition.values():
      limits = [
          re.match(r'constant\((\d+)\)', condition[o].text)
          for o in check.operands if condition[o].opcode == 'constant'
      ]
      if check.opcode == 'compare' and limits and limits[0]:
        return float(limits[0][1]) + ('direction=LE' in check.text)
    name = re.search(r'op_name="([^"]*)"', i.text)
    return needed_flops.loop_trips(name[1] if name else '', self._trips)

  def _hbm_bytes(self, i: Instruction, computation) -> float:
    """Bytes that an instruction outside of fusions moves."""
    if i.opcode == 'copy-start':  # Its shapes are destination and source.
      return sum(s.bytes for s in i.shapes[:2] if s.in_hbm)
    reads = [
        sum(s.bytes for s in computation[o].shapes if s.in_hbm)
        for o in i.operands
    ]
    writes = sum(s.bytes for s in i.shapes if s.in_hbm)
    if i.opcode == 'dynamic-slice':
      return 2 * writes
    if i.opcode == 'dynamic-update-slice':
      return 2 * reads[1]
    if i.opcode == 'fusion':
      return self._fusion_bytes(i, reads, writes)
    return sum(reads) + writes

  def _fusion_bytes(self, i, reads, writes) -> float:
    """As above; of an operand that is only sliced, the slices are read."""
    inner = self._computations[i.called('calls')]
    for j in inner.values():
      if j.opcode != 'parameter':
        continue
      users = [u for u in inner.values() if j.name in u.operands]
      number = int(re.match(r'parameter\((\d+)\)', j.text)[1])
      if users and all(u.opcode == 'dynamic-slice' for u in users):
        sliced = sum(s.bytes for u in users for s in u.shapes)
        reads[number] = min(reads[number], sliced)
      elif users and all(
          u.opcode == 'dynamic-update-slice' and u.operands[0] == j.name
          for u in users
      ):
        # Written in place: neither read nor written as a whole.
        update = sum(
            s.bytes for u in users for s in inner[u.operands[1]].shapes
        )
        writes += min(reads[number], update) - min(writes, reads[number])
        reads[number] = 0
    return sum(reads) + writes


def _parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
  """Returns computations by name, and the name of the entry."""
  computations, current, entry = {}, None, ''
  for line in text.splitlines():
    header = re.match(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$', line)
    if header:
      current = computations.setdefault(header[2], {})
      entry = header[2] if header[1] else entry
      continue
    found = _INSTRUCTION.match(line)
    if found and current is not None:
      current[found[1]] = _instruction(found[1], found[2])
  return computations, entry


def _instruction(name: str, rest: str) -> Instruction:
  rest = re.sub(r'/\*.*?\*/', '', rest)
  opcode = next(
      m for m in _OPCODE.finditer(rest) if not m[1].startswith(('T', 'S'))
  )
  shapes = tuple(_shapes(rest[: opcode.start(1)]))
  body = rest[opcode.start(1):]
  inside = body[len(opcode[1]) + 1: body.index(')')]
  return Instruction(
      name=name, opcode=opcode[1], shapes=shapes,
      operands=tuple(re.findall(r'%([\w.\-]+)', inside)), text=body,
  )


def _shapes(text: str) -> Iterator[Shape]:
  for dtype, sizes, layout in _SHAPE.findall(text):
    yield Shape(
        dtype, tuple(int(n) for n in sizes.split(',') if n),
        not re.search(r'S\([1-9]', layout),
    )


def _origin(i: Instruction) -> str:
  """Where in the model an instruction comes from, as far as XLA says."""
  name = re.search(r'op_name="([^"]*)"', i.text)
  return name[1] if name else i.opcode


def _group_size(text: str, chips: int) -> int:
  """Number of chips that take part in one collective."""
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', text)
  if listed:
    return len(listed[1].split(','))
  table = re.search(r'replica_groups=\[(\d+),(\d+)\]', text)
  if table:
    return int(table[2])
  axes = re.search(
      r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*')\}", text
  )
  if axes:
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
    return math.prod(int(sizes[a]) for a in re.findall(r"'(\w+)'", axes[2]))
  return chips


def _dot_flops(i: Instruction, computation) -> float:
  axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', i.text)
  left = computation[i.operands[0]].shapes[0].sizes
  inner = math.prod(left[int(a)] for a in axes[1].split(',') if a)
  return 2.0 * inner * math.prod(i.shapes[0].sizes)


def _convolution_flops(i: Instruction, computation) -> float:
  """Products of taps that meet an input, as `needed_flops` counts them."""
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', i.text)
  left, right = (
      dict(zip(label, computation[o].shapes[0].sizes))
      for label, o in zip(labels.groups(), i.operands)
  )
  out = dict(zip(labels[3], i.shapes[0].sizes))
  total = 2.0 * out['b'] * out['f'] * right['i']
  for axis in (a for a in labels[3] if a.isdigit()):
    n = int(axis)
    low, *_ = _window(i.text, 'pad', n, '0').split('_')
    total *= needed_flops.valid_products(
        size=left[axis], kernel=right[axis], out=out[axis],
        stride=int(_window(i.text, 'stride', n, '1')), low=int(low),
        lhs_dilation=int(_window(i.text, 'lhs_dilate', n, '1')),
        rhs_dilation=int(_window(i.text, 'rhs_dilate', n, '1')),
    )
  return total


def _window(text: str, key: str, axis: int, default: str) -> str:
  """Value of one axis in window={size=9x12 stride=... pad=...}."""
  found = re.search(r'window=\{[^}]*\b' + key + r'=([\w\-]+)', text)
  return found[1].split('x')[axis] if found else default


def _kernel_flops(i: Instruction, computation) -> float:
  """Of an attention kernel: full attention of S queries to S keys."""
  if 'tpu_custom_call' not in i.text or 'splash' not in i.name:
    return 0.0
  shapes = [s for o in i.operands for s in computation[o].shapes]
  query = max(
      (s for s in shapes if len(s.sizes) >= 3 and s.dtype != 's8'),
      key=lambda s: math.prod(s.sizes),
  )
  products = next(n for k, n in _KERNEL_PRODUCTS.items() if k in i.name)
  return 2.0 * products * math.prod(query.sizes) * query.sizes[-2]
