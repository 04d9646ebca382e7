"""Values of the few-step sampler that a bundle keeps, and their check."""

import math
from typing import Any

from asymtalker_jax import types

CARRIES = ('reencode', 'latent')
DEFAULTS = {
    'timesteps': [1000.0, 750.0, 500.0, 250.0],
    'shift': 5.0,
    # One of types.ROUNDINGS.
    'timestep_rounding': 'float32',
    # Strength of the Lab transfer to the portrait, see generate/color.
    'color_correction': 0.0,
    # What a chunk takes from the one before, see generate/long_video.
    'continuity_carry': 'reencode',
}
_CHOICES = {
    'timestep_rounding': types.ROUNDINGS,
    'continuity_carry': CARRIES,
}


def check(where: str, values: dict[str, Any]) -> dict[str, Any]:
  """Returns `values`, which have all keys of DEFAULTS.

  Args:
    where: of the values, for messages.
    values: plain values.

  Raises:
    ValueError: unknown or missing keys, or a value out of range.
  """
  if set(values) != set(DEFAULTS):
    raise ValueError(
        f'{where}: sampler has {sorted(values)}; expected {sorted(DEFAULTS)}'
    )
  for key, choices in _CHOICES.items():
    if values[key] not in choices:
      raise ValueError(
          f'{where}: {key} {values[key]!r}; expected one of {choices}'
      )
  strength = values['color_correction']
  if not _is_number(strength) or not 0 <= strength <= 1:
    raise ValueError(f'{where}: color_correction {strength!r}; expected 0 to 1')
  if not _is_number(values['shift']) or not 0 < values['shift'] < math.inf:
    raise ValueError(
        f'{where}: shift {values["shift"]!r}; expected a number above 0'
    )
  steps = values['timesteps']
  known = isinstance(steps, (list, tuple)) and all(map(_is_number, steps))
  if not (
      known and steps and list(steps) == sorted(set(steps), reverse=True)
      and 0 < steps[-1] and steps[0] <= 1000
  ):  # pyformat: disable
    raise ValueError(
        f'{where}: timesteps {steps!r}; expected descending ones in (0, 1000]'
    )
  return values


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
