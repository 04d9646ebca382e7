"""Endless, shuffled, resumable batches through Grain.

The order is a function of the seed alone: example n of the run is
`source[shuffle(n)]` with randomness of its own from (seed, n), and batch i is
made of the examples [i B, (i + 1) B). The position of an iterator is one
integer, and a process reads the rows of each batch that its devices need, so
that a run may go on with another number of processes.
"""

from typing import Any, Callable, Mapping, Sequence

import grain
import jax
import numpy as np

from asymtalker_jax.inputs import encoded
from asymtalker_jax.inputs.student_windows import StudentWindows
from asymtalker_jax.inputs.teacher_windows import TeacherWindow
from asymtalker_jax.types import ChunkPlan
from asymtalker_jax.types import Clip
from asymtalker_jax.types import StudentBatch
from asymtalker_jax.types import TeacherBatch


_EXAMPLE = 'example'  # Field that stays on the host.


class Batches:
  """Iterator over batches that knows its position.

  Attributes:
    examples: [b] int64, for each row of the last batch the number of its
      example in the source; None before the first batch.
  """

  def __init__(
      self,
      dataset: grain.IterDataset,
      make: Callable[..., Any] = dict,
  ):
    """Wraps a Grain dataset of dicts; `make(**fields)` builds the batch."""
    self._iterator = iter(dataset)
    self._start = self._iterator.get_state()
    self._make = make
    self.examples: np.ndarray | None = None

  def __iter__(self) -> 'Batches':
    return self

  def __next__(self) -> Any:
    fields = dict(next(self._iterator))
    self.examples = fields.pop(_EXAMPLE)
    return self._make(**fields)

  def get_state(self) -> dict[str, Any]:
    """Returns JSON values: which batch comes next."""
    return self._iterator.get_state()

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to where `get_state` was called; {} is the start."""
    self._iterator.set_state(dict(state or self._start))


def batches(
    source: Sequence[Any],
    transform: grain.transforms.RandomMap,
    batch_size: int,
    seed: int,
    *,
    make: Callable[..., Any] = dict,
    threads: int = 2,
    prefetch: int = 2,
    shuffle: bool = True,
    rows: Sequence[int] | None = None,
) -> Batches:
  """Returns endless batches of the transformed examples of a source.

  Args:
    source: random access to examples.
    transform: example, generator -> dict of arrays of equal shapes.
    batch_size: B over all processes.
    seed: decides the order and the randomness of `transform`.
    make: called with the stacked fields, for example `TeacherBatch`.
    threads: that read ahead; 0 reads when asked.
    prefetch: batches that are kept ready.
    shuffle: a new order each epoch, or the order of the source.
    rows: of every batch, those that this process reads, see
      `sharding.process_rows`; all of them when None.

  Raises:
    ValueError: empty source, fewer examples than processes, or no batch.
  """
  sharing = 1 if rows is None else jax.process_count()
  if len(source) < sharing:
    raise ValueError(
        f'dataset has {len(source)} examples, expected at least one for each'
        f' of {sharing} processes'
    )
  if batch_size < 1:
    raise ValueError(f'batch_size={batch_size}: expected 1 or more')
  rows = range(batch_size) if rows is None else rows
  dataset = grain.MapDataset.source(_Numbered(source))
  if shuffle:
    dataset = dataset.shuffle(seed=seed)
  dataset = dataset.repeat().random_map(_KeepNumber(transform), seed=seed)
  dataset = _ProcessRows(dataset, batch_size, rows)
  dataset = dataset.batch(len(rows), drop_remainder=True)
  options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=prefetch if threads else 0
  )
  return Batches(dataset.to_iter_dataset(options), make)


class _Numbered(Sequence):
  """A source that gives (number, example)."""

  def __init__(self, source: Sequence[Any]):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index):
    return index, self._source[index]


class _KeepNumber(grain.transforms.RandomMap):
  """A transform of examples, applied to (number, example)."""

  def __init__(self, transform: grain.transforms.RandomMap):
    self._transform = transform

  def random_map(self, element, rng):
    number, example = element
    fields = self._transform.random_map(example, rng)
    return dict(fields) | {_EXAMPLE: np.asarray(number, np.int64)}


class _ProcessRows(grain.MapDataset):
  """Some rows of every global batch."""

  def __init__(self, parent, batch_size: int, rows: Sequence[int]):
    super().__init__(parent)
    self._batch_size, self._rows = batch_size, tuple(rows)

  def __len__(self) -> int:
    return len(self._parent) // self._batch_size * len(self._rows)

  def __getitem__(self, n):
    batch, row = divmod(n, len(self._rows))
    return self._parent[batch * self._batch_size + self._rows[row]]


def teacher_batches(
    path: str,
    plan: ChunkPlan,
    batch_size: int,
    seed: int,
    *,
    split: str = 'train',
    in_memory: bool = False,
    **options,
) -> Batches:
  """Returns `TeacherBatch`es of an encoded dataset, see `batches`.

  Args:
    path: folder of `encoded.write_encoded`.
    plan: geometry of the chunk.
    batch_size: B over all processes.
    seed: of order, windows and references.
    split: of the dataset.
    in_memory: read the whole split first.
    **options: of `batches`.

  Raises:
    FileNotFoundError: no such dataset.
    ValueError: the dataset was encoded with another geometry.
  """
  source = _open(path, split, plan, in_memory)
  transform = TeacherWindow(plan=plan)
  return batches(
      source, transform, batch_size, seed, make=TeacherBatch, **options
  )


def student_batches(
    path: str,
    plan: ChunkPlan,
    chunks: int,
    batch_size: int,
    seed: int,
    *,
    split: str = 'train',
    in_memory: bool = False,
    **options,
) -> Batches:
  """Returns `StudentBatch`es with K = chunks windows, see `teacher_batches`.

  Raises:
    FileNotFoundError: no such dataset.
    ValueError: the dataset has other shapes, or fewer windows per clip.
  """
  source = _open(path, split, plan, in_memory)
  windows = source[0]['latents'].shape[0]
  if not 1 <= chunks <= windows:
    raise ValueError(
        f'chunks={chunks}: the clips of {path} have {windows} windows, expected'
        f' 1..{windows}'
    )
  transform = StudentWindows(plan=plan, chunks=chunks)
  return batches(
      source, transform, batch_size, seed, make=StudentBatch, **options
  )


def clip_batches(
    clips: Sequence[Clip],
    frames: int,
    batch_size: int,
    seed: int,
    *,
    in_memory: bool = False,
    **options,
) -> Batches:
  """Returns {'video': [B, F, H, W, 3] float32 in [-1, 1]}, random in time.

  Args:
    clips: of `source.open_clips`.
    frames: F.
    batch_size: B over all processes.
    seed: of order and crops.
    in_memory: decode all clips once and keep their frames as uint8.
    **options: of `batches`.

  Raises:
    ValueError: the clips are shorter than F.
  """
  source = [_Frames(c.frames) for c in clips] if in_memory else clips
  length = len(source[0].frames) if len(source) else frames
  if length < frames:
    raise ValueError(
        f'frames={frames}: the first clip has only {length} frames'
    )
  transform = RandomFrames(frames)
  return batches(source, transform, batch_size, seed, **options)


class _Frames:
  """The part of a Clip that `RandomFrames` reads; lets the rest go."""

  def __init__(self, frames: np.ndarray):
    self.frames = frames


class RandomFrames(grain.transforms.RandomMap):
  """Clip -> {'video': F consecutive frames, float32 in [-1, 1]}."""

  def __init__(self, frames: int):
    self._frames = frames

  def random_map(
      self, element: Clip, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns {'video': [F, H, W, 3]}."""
    start = int(rng.integers(len(element.frames) - self._frames + 1))
    frames = element.frames[start : start + self._frames]
    return {'video': frames.astype(np.float32) / 127.5 - 1.0}


def _open(
    path: str, split: str, plan: ChunkPlan, in_memory: bool
) -> Sequence[Mapping[str, np.ndarray]]:
  """Returns the examples of a split, checked against the geometry."""
  source = encoded.open_encoded(path, split)
  shape = source.shapes['latents']
  frames = shape[0] * plan.new_frames + plan.continuity_frames
  if shape[1:] != plan.latent_shape or source.shapes['audio'][0] != frames:
    raise ValueError(
        f'{path}: encoded windows are {shape[1:]} with'
        f' {source.shapes["audio"][0]} audio frames, the model expects'
        f' {plan.latent_shape} and {frames}; encode the dataset with this model'
    )
  return [source[i] for i in range(len(source))] if in_memory else source
