"""The published layouts by name, so that a bundle can say where it came from.

`Layout` is what `release.py` reads a checkpoint with and `export.py` writes one
with: the same table in both directions.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from asymtalker_jax.convert import flashhead
from asymtalker_jax.convert import ltx_vae
from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit
from asymtalker_jax.convert import wan_vae
from asymtalker_jax.convert import wav2vec2

_TABLES = {
    'flashhead-dit': flashhead.table,
    'wan-dit': wan_dit.original_table,
    'wan-dit-diffusers': wan_dit.diffusers_table,
    'wan-vae': wan_vae.original_table,
    'wan-vae-diffusers': wan_vae.diffusers_table,
    'ltx-vae': ltx_vae.original_table,
    'ltx-vae-diffusers': ltx_vae.diffusers_table,
    'wav2vec2': lambda _, **options: wav2vec2.table(**options),
}


@dataclasses.dataclass(frozen=True)
class Layout:
  """One way to name and shape the tensors of a network.

  Attributes:
    name: one of the published layouts.
    options: what its table needs beside the configuration, plain values.
  """

  name: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def table(self, config: Any) -> rules.Table:
    """Its table for a network.

    Raises:
      ValueError: unknown name, or a network that the layout cannot hold.
    """
    if self.name not in _TABLES:
      raise ValueError(
          f'layout {self.name!r}: expected one of {", ".join(_TABLES)}'
      )
    return _TABLES[self.name](config, **self.options)
