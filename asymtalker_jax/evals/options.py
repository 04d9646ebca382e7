"""What `asymtalker evaluate` is asked for, checked before anything runs."""

from collections.abc import Sequence
import dataclasses
import math
import pathlib

from asymtalker_jax.evals import generation
from asymtalker_jax.evals import long_tasks
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import paper_table
from asymtalker_jax.evals import protocol

FIELD = tuple(networks.METRICS)
METRICS = ('pixels', 'puppets', *FIELD)
LEAST_WINDOW_S = 1.0
CLIPS = 16  # of a dataset, where no number is given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What the command line says; `asymtalker evaluate --help` explains."""

  data: str
  out: str
  bundle: str = 'tiny'
  split: str = 'test'
  reader: str | None = None
  roles: Sequence[str] = ('student',)
  steps: Sequence[str] = ()
  guidance: float | None = None
  videos: Sequence[str] = ()
  clips: int | None = None  # of a manifest all, of a dataset CLIPS
  seconds: float = 0.0
  long_videos: int = 1
  window_s: float = 10.0
  seed: int = 0
  carry: str | None = None
  color_correction: float | None = None
  metrics: Sequence[str] = ()
  weights_dir: str | None = None
  part: str | None = None
  published: str | None = None

  def __post_init__(self):
    """Refuses what does not go together.

    Raises:
      ValueError: names the flags and what is expected.
    """
    for name in ('seconds', 'window_s', 'guidance', 'color_correction'):
      value = getattr(self, name)
      if value is not None and not math.isfinite(value):
        raise ValueError(f'--{name}={value}: expected a finite number')
    self._check_clips()
    self._check_long()
    self._check_roles()
    self.take()
    self.folders()
    unknown = sorted(set(self.metrics) - set(METRICS))
    if unknown:
      raise ValueError(f'--metrics: {unknown}; expected some of {METRICS}')
    if self.published:
      paper_table.published(self.published)  # Says which there are.

  def _check_clips(self) -> None:
    if self.clips == 0 and not self.seconds:
      raise ValueError('--clips=0 and --seconds=0: expected one above 0')
    if self.published and self.clips == 0:
      raise ValueError('--published and --clips=0: no figures for its table')
    if self.videos and self.part:
      raise ValueError('--part and --videos: nothing to generate')
    if self.part and self.published:
      raise ValueError(
          '--part scores nothing; expected --published in the run without it'
      )

  def _check_long(self) -> None:
    if not self.seconds:
      return
    if len(self.videos) > 1:
      raise ValueError(
          '--videos and --seconds: expected one folder; --compare puts several'
          ' runs on one page'
      )
    if self.long_videos < 1:
      raise ValueError(f'--long_videos={self.long_videos}: expected at least 1')
    if self.window_s < LEAST_WINDOW_S:
      raise ValueError(
          f'--window_s={self.window_s:g}: expected at least {LEAST_WINDOW_S:g}'
      )
    least = max(long_tasks.LEAST_S, self.window_s)
    if self.seconds < least:
      raise ValueError(
          f'--seconds={self.seconds:g}: expected at least {least:g} for windows'
          f' of --window_s={self.window_s:g}'
      )

  def _check_roles(self) -> None:
    for name in self.roles:
      if name not in generation.ROLES:
        raise ValueError(
            f'--roles: {name!r}; expected some of {generation.ROLES}'
        )
    if not self.roles or len(set(self.roles)) < len(self.roles):
      raise ValueError(f'--roles={",".join(self.roles)}: expected each once')
    if len(self.steps) not in (0, len(self.roles)):
      raise ValueError(
          f'--steps={",".join(self.steps)}: expected one number per role of'
          f' {",".join(self.roles)}'
      )
    for name in self.roles:
      self.steps_of(name)

  @property
  def sections(self) -> tuple[str, ...]:
    """Of metrics.json that a gate may bound: those that are measured."""
    asked = {'clips': self.clips != 0, 'long': self.seconds}
    return tuple(name for name, amount in asked.items() if amount)

  def steps_of(self, role: str) -> int | None:
    """Sampler steps of a role; None for its own.

    Raises:
      ValueError: not a number above 0.
    """
    if not self.steps:
      return None
    text = self.steps[self.roles.index(role)]
    if not text.isdigit() or not int(text):
      raise ValueError(f'--steps: {text!r}; expected a number above 0')
    return int(text)

  def guidance_of(self, role: str) -> float | None:
    """Guidance goes to the teacher where there is one."""
    if 'teacher' in self.roles and role != 'teacher':
      return None
    return self.guidance

  def folders(self) -> dict[str, str]:
    """Folders of --videos by the name of their system: PATH is called as its
    last part, NAME=PATH as it says.

    Raises:
      ValueError: two of one name, or that of ground truth.
    """
    found = {}
    for text in self.videos:
      name, equals, path = text.partition('=')
      if not equals or '/' in name:
        name, path = pathlib.Path(text).resolve().name, text
      if not name or name in found or name == protocol.TRUTH:
        raise ValueError(
            f'--videos: {"two systems" if name in found else "a system"} named'
            f' {name!r}; NAME=PATH gives another name'
        )
      found[name] = path
    return found

  def take(self) -> slice | None:
    """Which clips and long videos this process makes, None for all of them and
    scores.

    Raises:
      ValueError: not of the form I/N with 0 <= I < N.
    """
    if not self.part:
      return None
    index, _, count = self.part.partition('/')
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
      raise ValueError(f'--part={self.part}: expected I/N, 0 <= I < N')
    return slice(int(index), None, int(count))
