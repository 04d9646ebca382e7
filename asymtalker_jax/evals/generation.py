"""A bundle as a system under test, with the time and memory that it takes."""

from collections.abc import Iterator, Sequence
import time
import zlib

import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax.generate import long_video
from asymtalker_jax.generate import process

ROLES = ('student', 'teacher')
TEACHER_STEPS, TEACHER_GUIDANCE = 20, 3.0


def load_bundle(name: str, *roles: str) -> bundle_lib.Bundle:
  """A bundle with the weights that these roles need.

  Raises:
    ValueError: unknown role, or a damaged bundle.
    FileNotFoundError: no such bundle, or no teacher in it.
  """
  for role in roles:
    if role not in ROLES:
      raise ValueError(f'role {role!r}: expected one of {ROLES}')
  weights = ['dit' if role == 'student' else 'teacher' for role in roles]
  return bundle_lib.load(name, parts=('vae', *weights, 'audio'))


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
  values = config['sampler']
  if role == 'teacher':
    scale = TEACHER_GUIDANCE if guidance is None else guidance
    return long_video.guided_euler(
        steps or TEACHER_STEPS, values['shift'], scale,
        values['timestep_rounding'],
    )
  if guidance is not None:
    raise ValueError(
        f'guidance {guidance}: a student has none; expected --role=teacher'
    )
  return long_video.student_sampler(values, steps)


class Generation:
  """A `protocol.Generate` that keeps a report of each video.

  Attributes:
    reports: one per finished video, keys as in `speed.KEYS`, and 'memory_mb',
      the resident memory after each chunk.
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
    """Args: as `load_bundle`, `sampler` and `long_video.LongVideo`; each
    video has its own seed, of `seed` and its name."""
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

  def __call__(
      self, image: np.ndarray, waveform: np.ndarray, name: str = ''
  ) -> Iterator[np.ndarray]:
    """Yields frames [H, W, 3] uint8 for an image [H, W, 3] uint8 and speech
    [S]; only the time spent here counts."""
    spent, first, count, memory_mb = 0.0, None, 0, []
    # By name, so that a run which finds some videos done draws the same noise.
    seed = (self._seed + zlib.crc32(name.encode())) % 2**31
    if not self._compiled:
      self._video.compile(*self._start(image, waveform, seed))
      self._compiled = True
    began = time.monotonic()
    identity, speech, state = self._start(image, waveform, seed)
    for frames, _ in self._video.run(identity, speech, state):
      spent += time.monotonic() - began
      first = spent if first is None else first
      memory_mb.append(round(process.resident_mb(), 1))
      count += len(frames[0])
      yield from frames[0]
      began = time.monotonic()
    self.reports.append({
        'frames': count,
        'wall_s': spent,
        'frames_per_s': count / spent,
        'first_frame_s': first,
        'peak_rss_mb': process.peak_mb(),
        'memory_mb': memory_mb,
    })

  def _start(self, image: np.ndarray, waveform: np.ndarray, seed: int):
    """What a run takes: identity, speech and first state."""
    pixels = image[None].astype(np.float32) / 127.5 - 1.0
    identity, state = self._video.start(pixels, seed)
    return identity, self._video.prepare(waveform), state


def memory_growth(memory_mb: Sequence[float], seconds: float) -> float:
  """Resident memory of the last minute over the first, minus 1.

  Args:
    memory_mb: after each chunk; the first is left out, buffers grow there.
    seconds: length of the video.
  """
  size = max(int(len(memory_mb) * 60 / seconds), 1)
  held = memory_mb[1:] or memory_mb
  return float(np.mean(held[-size:]) / np.mean(held[:size]) - 1.0)
