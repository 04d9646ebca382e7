"""A bundle as a system under test, with the time and memory that it takes."""

from collections.abc import Iterator
import os
import pathlib
import resource
import time

import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax.generate import long_video

ROLES = ('student', 'teacher')
TEACHER_STEPS, TEACHER_GUIDANCE = 20, 3.0
_STATM = pathlib.Path('/proc/self/statm')


def resident_mb() -> float:
  """Memory that this process holds now; its peak where only that is known."""
  if _STATM.exists():
    pages = int(_STATM.read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
  return peak_mb()


def peak_mb() -> float:
  """Largest memory that this process has held."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def load_bundle(name: str, role: str) -> bundle_lib.Bundle:
  """A bundle with the weights that a role needs.

  Raises:
    ValueError: unknown role, or a damaged bundle.
    FileNotFoundError: no such bundle, or no teacher in it.
  """
  if role not in ROLES:
    raise ValueError(f'role {role!r}: expected one of {ROLES}')
  dit = 'dit' if role == 'student' else 'teacher'
  return bundle_lib.load(name, parts=('vae', dit, 'audio'))


def sampler(
    config: dict, role: str, steps: int | None, guidance: float | None
) -> long_video.Sample:
  """The sampler of a role.

  Args:
    config: of the bundle.
    role: 'student' samples in few steps without guidance, 'teacher' in many
      with.
    steps: None for the bundle's own steps, or 20 for a teacher.
    guidance: of a teacher; None for 3.

  Raises:
    ValueError: guidance for a student, or steps out of range.
  """
  shift = config['sampler']['shift']
  if role == 'teacher':
    scale = TEACHER_GUIDANCE if guidance is None else guidance
    return long_video.guided_euler(steps or TEACHER_STEPS, shift, scale)
  if guidance is not None:
    raise ValueError(
        f'guidance {guidance}: a student has none; expected --role=teacher'
    )
  timesteps = config['sampler']['timesteps']
  if steps:
    timesteps = long_video.even_timesteps(steps)
  return long_video.few_step(timesteps, shift)


class Generation:
  """A `protocol.Generate` that keeps a report of each video.

  Attributes:
    reports: one per finished video, keys as in `speed.KEYS`.
    memory_mb: resident memory after each chunk of the latest video.
  """

  def __init__(
      self,
      bundle: bundle_lib.Bundle,
      role: str = 'student',
      steps: int | None = None,
      guidance: float | None = None,
      seed: int = 0,
      carry: str = 'reencode',
      color_correction: float = 0.0,
  ):
    """Args: as `load_bundle`, `sampler` and `long_video.LongVideo`; videos
    after the first use the seeds after `seed`."""
    params = dict(bundle.params)
    if role == 'teacher':
      params['dit'] = params['teacher']
    self._video = long_video.LongVideo(
        bundle.networks,
        params,
        sampler(bundle.config, role, steps, guidance),
        carry=carry,
        color_correction=color_correction,
    )
    self._seed, self._compiled = seed, False
    self.reports: list[dict] = []
    self.memory_mb: list[float] = []

  def __call__(
      self, image: np.ndarray, waveform: np.ndarray
  ) -> Iterator[np.ndarray]:
    """Yields frames [H, W, 3] uint8 for an image [H, W, 3] uint8 and speech
    [S]; only the time spent here counts."""
    spent, first, count, self.memory_mb = 0.0, None, 0, []
    if not self._compiled:
      self._start(image, 0)
    began = time.monotonic()
    identity, state = self._start(image, self._seed + len(self.reports))
    speech = self._video.prepare(waveform)
    for frames, _ in self._video.run(identity, speech, state):
      spent += time.monotonic() - began
      first = spent if first is None else first
      self.memory_mb.append(resident_mb())
      count += len(frames[0])
      yield from frames[0]
      began = time.monotonic()
    self.reports.append({
        'frames': count,
        'wall_s': spent,
        'frames_per_s': count / spent,
        'first_frame_s': first,
        'peak_rss_mb': peak_mb(),
    })

  def _start(self, image: np.ndarray, seed: int):
    """Identity and first state; compiles before the first use."""
    pixels = image[None].astype(np.float32) / 127.5 - 1.0
    identity, state = self._video.start(pixels, seed)
    if not self._compiled:
      self._video.compile(identity, state)
      self._compiled = True
    return identity, state

  def memory_growth(self, chunks_per_minute: float) -> float:
    """Resident memory of the last minute over the first, minus 1; the first
    chunk is left out, buffers grow there."""
    size = max(int(chunks_per_minute), 1)
    held = self.memory_mb[1:] or self.memory_mb
    return float(np.mean(held[-size:]) / np.mean(held[:size]) - 1.0)
