"""Batches: the right frames, a position, the same for any process count."""

import numpy as np
import pytest

from asymtalker_jax.inputs import encoded
from asymtalker_jax.inputs import loader
from asymtalker_jax.inputs.student_windows import StudentWindows
from asymtalker_jax.inputs.teacher_windows import TeacherWindow
from asymtalker_jax.types import ChunkPlan
from asymtalker_jax.types import Clip
from asymtalker_jax.types import StudentBatch
from asymtalker_jax.types import TeacherBatch

# T = 3, m = 2: 5 continuity frames, 4 new frames per chunk.
PLAN = ChunkPlan(
    frames=9, height=2, width=2, temporal_stride=4, spatial_stride=2,
    latent_channels=1,
)
WINDOWS, SPARE, FRAMES = 4, 3, 4 * 4 + 5


def example(i):
  """Latents say (clip, window), audio says (clip, frame)."""
  window = np.arange(WINDOWS).reshape(-1, 1, 1, 1, 1) + 10 * i
  spare = 100 + np.arange(SPARE).reshape(-1, 1, 1, 1, 1) + 10 * i
  shape = PLAN.latent_shape
  return {
      'latents': np.broadcast_to(window, (WINDOWS,) + shape).astype(np.float16),
      'reference_latents': np.broadcast_to(spare, (SPARE,) + shape).astype(
          np.float16
      ),
      'audio': (np.arange(FRAMES) + 100 * i)[:, None, None].astype(np.float16),
      'identity': np.asarray(i, np.int64),
  }


@pytest.fixture(name='path')
def _path(tmp_path):
  encoded.write_encoded(
      str(tmp_path), 'train', lambda s: map(example, range(s, 5)), 5, meta={}
  )
  return str(tmp_path)


def numbers(**options):
  """Batches of (example number, random number) from a source of numbers."""
  class Draw(loader.RandomFrames):

    def random_map(self, element, rng):
      return {'n': np.asarray(element), 'r': rng.integers(1 << 40)}

  return loader.batches(
      list(range(options.pop('source', 5))), Draw(0), options.pop('size', 4),
      7, **options
  )


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def test_teacher_window_audio_and_latents_are_of_the_same_window():
  transform = TeacherWindow(plan=PLAN)
  seen = set()
  for seed in range(40):
    fields = transform.random_map(example(2), np.random.default_rng(seed))
    window = int(fields['latents'].flat[0]) - 20
    spare = int(fields['reference'].flat[0]) - 120
    seen.add((window, spare))
    assert fields['audio'].shape == (9, 5, 1, 1)
    centres = fields['audio'][:, 2, 0, 0] - 200
    np.testing.assert_array_equal(centres, 4 * window + np.arange(9))
  assert {w for w, _ in seen} == set(range(WINDOWS))
  assert {r for _, r in seen} == set(range(SPARE))


def test_student_windows_are_consecutive_with_one_reference():
  transform = StudentWindows(plan=PLAN, chunks=3)
  firsts = set()
  for seed in range(20):
    fields = transform.random_map(example(0), np.random.default_rng(seed))
    assert fields['reference'].shape == PLAN.latent_shape
    windows = fields['latents'][:, 0, 0, 0, 0]
    firsts.add(int(windows[0]))
    np.testing.assert_array_equal(windows, windows[0] + np.arange(3))
    np.testing.assert_array_equal(fields['audio'][:, 0, 2, 0, 0], 4 * windows)
  assert firsts == {0, 1}


def test_audio_is_clamped_at_the_ends_of_the_clip():
  transform = StudentWindows(plan=PLAN, chunks=WINDOWS)
  audio = transform.random_map(example(0), np.random.default_rng(0))['audio']
  np.testing.assert_array_equal(audio[0, 0, :, 0, 0], [0, 0, 0, 1, 2])
  last = FRAMES - 1
  np.testing.assert_array_equal(
      audio[-1, -1, :, 0, 0], [last - 2, last - 1, last, last, last]
  )


def test_batches_have_the_types_and_shapes_of_the_method(path):
  teacher = next(loader.teacher_batches(path, PLAN, 3, 0))
  student = next(loader.student_batches(path, PLAN, 2, 3, 0, in_memory=True))
  assert isinstance(teacher, TeacherBatch) and isinstance(student, StudentBatch)
  assert teacher.latents.shape == (3,) + PLAN.latent_shape
  assert teacher.audio.shape == (3, 9, 5, 1, 1)
  assert student.latents.shape == (3, 2) + PLAN.latent_shape
  assert student.audio.shape == (3, 2, 9, 5, 1, 1)
  assert teacher.latents.dtype == student.audio.dtype == np.float32


def test_every_example_comes_once_per_epoch_in_changing_order():
  drawn = np.concatenate([b['n'] for b in take(numbers(size=5), 4)])
  epochs = drawn.reshape(4, 5)
  np.testing.assert_array_equal(np.sort(epochs), [range(5)] * 4)
  assert len({tuple(epoch) for epoch in epochs}) > 1


def test_same_example_is_drawn_differently_in_each_epoch():
  batches = take(numbers(size=5), 6)
  assert len({int(r) for b in batches for r in b['r']}) == 30


@pytest.mark.parametrize('threads', [0, 2])
def test_position_can_be_saved_and_set(threads):
  one = numbers(threads=threads)
  start = one.get_state()
  take(one, 3)
  state, expected = one.get_state(), take(one, 3)
  other = numbers(threads=2 - threads)
  other.set_state(state)
  for a, b in zip(take(other, 3), expected):
    np.testing.assert_array_equal(a['r'], b['r'])
  other.set_state(start)
  first = next(other)['r']
  other.set_state({})
  np.testing.assert_array_equal(next(other)['r'], first)


@pytest.mark.parametrize('owned', [[[0, 1], [2, 3]], [[0, 2], [2, 3], [1]]])
def test_processes_read_their_rows_of_the_same_batch(owned):
  parts = [take(numbers(rows=rows), 5) for rows in owned]
  for i, whole in enumerate(take(numbers(), 5)):
    for part, rows in zip(parts, owned):
      np.testing.assert_array_equal(part[i]['r'], whole['r'][rows])


def test_every_example_comes_once_per_epoch_over_all_processes():
  drawn = [
      np.stack([b['n'] for b in take(numbers(rows=rows, source=8), 4)])
      for rows in ([0, 3], [1], [2])
  ]
  epochs = np.concatenate(drawn, 1).reshape(2, 8)
  np.testing.assert_array_equal(np.sort(epochs), [range(8)] * 2)


@pytest.mark.parametrize('rows', [None, [1, 3]])
def test_examples_of_the_last_batch_are_known(rows):
  iterator = numbers(rows=rows)
  for batch in take(iterator, 2):
    assert set(batch) == {'n', 'r'}
  np.testing.assert_array_equal(iterator.examples, batch['n'])


def test_order_of_the_source_without_shuffling():
  batch = next(numbers(size=5, shuffle=False))
  np.testing.assert_array_equal(batch['n'], range(5))


@pytest.mark.parametrize('in_memory', [False, True])
def test_clips_are_cropped_in_time(in_memory):
  frames = np.arange(10, dtype=np.uint8).reshape(-1, 1, 1, 1)
  frames = np.broadcast_to(frames * 25, (10, 2, 2, 3))
  clip = Clip(frames=frames, waveform=np.zeros(6400, np.float32), identity=0)
  batches = loader.clip_batches([clip] * 2, 4, 2, 0, in_memory=in_memory)
  video = np.concatenate([b['video'] for b in take(batches, 40)])
  assert video.shape == (80, 4, 2, 2, 3) and video.dtype == np.float32
  pixels = np.rint((video[:, :, 0, 0, 0] + 1) * 127.5 / 25)
  np.testing.assert_array_equal(np.diff(pixels, axis=1), 1)
  assert set(pixels[:, 0]) == set(range(7))


def test_bad_sizes_are_refused_with_the_expectation(path, monkeypatch):
  with pytest.raises(ValueError, match='batch_size=0: expected 1 or more'):
    numbers(size=0)
  with monkeypatch.context() as patch:
    patch.setattr(loader.jax, 'process_count', lambda: 8)
    with pytest.raises(ValueError, match='5 examples.* 8 processes'):
      numbers(size=8, rows=[0])
    numbers(size=2)  # The same on all processes, as held-out examples are.
  with pytest.raises(ValueError, match='chunks=5: .* expected 1..4'):
    loader.student_batches(path, PLAN, 5, 2, 0)
  other = ChunkPlan(
      frames=9, height=4, width=2, temporal_stride=4, spatial_stride=2,
      latent_channels=1,
  )
  with pytest.raises(ValueError, match='encode the dataset with this model'):
    loader.teacher_batches(path, other, 2, 0)
