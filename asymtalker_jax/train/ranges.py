"""Ranges of the numbers in a training's config, checked before it starts."""

from collections.abc import Callable, Mapping
import math
from typing import Any

_COUNT = (lambda v: v >= 1, 'at least 1')
_AMOUNT = (lambda v: v >= 0, 'at least 0')
_SHARE = (lambda v: 0 <= v <= 1, '0 to 1')
# What is not in a config is not checked: trainings have different sections.
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    'steps': _AMOUNT,
    'max_minutes': _AMOUNT,
    'batch_size': _COUNT,
    'microbatches': _COUNT,
    'chunks': _COUNT,
    'log_every': _COUNT,
    'eval_every': _AMOUNT,
    'flow.shift': (lambda v: v > 0, 'above 0'),
    'flow.motion_weight': _AMOUNT,
    'conditioning.cold_start': _SHARE,
    'conditioning.drop_audio': _SHARE,
    'distillation.critic_updates': _AMOUNT,
    'distillation.guidance': _AMOUNT,
    'distillation.regression_weight': _AMOUNT,
    'ema.decay': (lambda v: 0 <= v < 1, 'at least 0 and below 1'),
    'ema.start_step': _AMOUNT,
}


def check(config: Mapping[str, Any]) -> None:
  """Raises ValueError for the first value that makes no sense."""
  for key, (fits, words) in RANGES.items():
    section, _, name = key.rpartition('.')
    values = config.get(section, {}) if section else config
    if name not in values:
      continue
    value = values[name]
    known = isinstance(value, (int, float)) and math.isfinite(value)
    if not known or not fits(value):
      raise ValueError(f'config.{key}={value}: expected {words}')
