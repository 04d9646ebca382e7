"""Bounds that a checkpoint must keep."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

SIDES = ('min', 'max')
SECTIONS = ('clips', 'long')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
  """One bound.

  Attributes:
    section: 'clips', or 'long' for the figures of the long video.
    figure: its name.
    side: 'min' or 'max'.
    bound: the value.
    value: what was measured, None where nothing was.
  """

  section: str
  figure: str
  side: str
  bound: float
  value: float | None

  @property
  def passed(self) -> bool:
    if self.value is None or not math.isfinite(self.value):
      return False
    if self.side == 'min':
      return self.value >= self.bound
    return self.value <= self.bound

  def __str__(self) -> str:
    value = 'not measured' if self.value is None else f'{self.value:.4g}'
    relation = '>=' if self.side == 'min' else '<='
    return (
        f'{"pass" if self.passed else "FAIL"}  {self.section}: {self.figure}'
        f' {value}, expected {relation} {self.bound:g}'
    )


def bounds(config: Mapping[str, Any]) -> dict[str, dict[str, dict]]:
  """Section -> figure -> {'min': ..., 'max': ...} of a gate's config.

  Raises:
    ValueError: no bounds, another section, or a bound that is not a number.
  """
  if not config or set(config) - set(SECTIONS):
    raise ValueError(
        f'gate with the sections {sorted(config)}: expected some of {SECTIONS}'
    )
  for section, figures in config.items():
    for figure, sides in figures.items():
      if not isinstance(sides, Mapping):
        raise ValueError(
            f'gate: {section}.{figure} is {sides!r}; expected one or both of'
            f' {SIDES} with numbers'
        )
      for side, bound in sides.items():
        if side not in SIDES or not isinstance(bound, (int, float)):
          raise ValueError(
              f'gate: {section}.{figure}.{side} is {bound!r}; expected a number'
              f' as one of {SIDES}'
          )
  return {name: dict(figures) for name, figures in config.items()}


def check(
    wanted: Mapping[str, Mapping[str, Mapping[str, float]]],
    measured: Mapping[str, Mapping[str, float]],
) -> list[Check]:
  """Every bound against what was measured; a figure that is missing fails.

  Args:
    wanted: of `bounds`.
    measured: section -> figures; sections that were not run are left out.

  Raises:
    ValueError: none of the sections was run.
  """
  if not set(wanted) & set(measured):
    raise ValueError(
        f'gate with bounds on {sorted(wanted)}: expected one of them to be'
        f' measured, which were {sorted(measured)}'
    )
  return [
      Check(section=section, figure=figure, side=side, bound=float(bound),
            value=measured[section].get(figure))
      for section, figures in wanted.items()
      if section in measured
      for figure, sides in figures.items()
      for side, bound in sides.items()
  ]  # pyformat: disable
