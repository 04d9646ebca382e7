"""Roles of a bundle as systems under test, and a part of their videos."""

from collections.abc import Iterator, Sequence
import pathlib

from absl import logging

from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import generation
from asymtalker_jax.evals import long_section
from asymtalker_jax.evals import options as options_lib
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import systems as systems_lib


class Roles:
  """The bundle under test, its roles as systems that keep their videos.

  Attributes:
    size: (height, width) of what it generates.
    kept: by role.
  """

  def __init__(self, options: options_lib.Options):
    """Loads the bundle.

    Raises:
      FileNotFoundError, ValueError: no such bundle, or it does not go with the
        options or with what is kept in their folder.
    """
    self._options = options
    self._bundle = generation.load_bundle(options.bundle, *options.roles)
    chunk = self._bundle.networks.chunk
    self.size = (chunk.height, chunk.width)
    self.kept = {role: self._keep(role) for role in options.roles}

  def _keep(self, role: str) -> systems_lib.Kept:
    options, config = self._options, self._bundle.config
    own = config['sampler']
    strength = options.color_correction
    settings = {
        'role': role,
        'steps': options.steps_of(role),
        'guidance': options.guidance_of(role),
        'seed': options.seed,
        # The teacher was trained on frames that were encoded.
        'carry': options.carry or (
            own['continuity_carry'] if role == 'student' else 'reencode'
        ),
        'color_correction': (
            own['color_correction'] if strength is None else strength
        ),
    }
    model = generation.Generation(self._bundle, **settings)
    return systems_lib.Kept(
        model,
        pathlib.Path(options.out) / 'videos' / role,
        self.size,
        settings | {'weights': config['sha256']},
    )

  def made(self) -> int:
    """Videos that this process has made."""
    return sum(kept.made for kept in self.kept.values())

  def systems(self) -> dict[str, systems_lib.System]:
    """The roles, and ground truth through the VAE in front of them."""
    vae = systems_lib.reconstructed(self._bundle, self.size)
    return {'vae': vae} | dict(self.kept)


def _work(
    options: options_lib.Options, cases: cases_lib.Cases, roles: Roles
) -> Iterator[tuple[str, str, Sequence[cases_lib.Case], int]]:
  """(role, name, cases, index of the one to make) of every video of a part."""
  part = options.take()
  for index in range(options.clips)[part]:
    for role in roles.kept:
      yield role, cases.names[index], cases, index
  if options.seconds:
    tasks = long_section.tasks_of(options, cases).tasks
    for index in range(len(tasks))[part]:
      yield options.roles[0], tasks[index].name, tasks, index


def make_part(
    options: options_lib.Options, cases: cases_lib.Cases, roles: Roles
) -> tuple[int, list[dict]]:
  """Makes every N-th video of clips, and every N-th long one, and scores none.

  Returns:
    How many there are to make, and which of them failed and why.

  Raises:
    ValueError: as `long_section.tasks_of`.
  """
  count, failures = 0, []
  for role, name, source, index in _work(options, cases, roles):
    count += 1
    try:
      roles.kept[role].make(source[index])
    except (ValueError, OSError) as error:
      why = protocol.reason(error)
      failures.append({'system': role, 'video': name, 'reason': why})
      logging.error('%s, %s: %s', role, name, why)
  return count, failures
