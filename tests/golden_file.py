"""Reads the recorded inputs and outputs of the reference networks."""

import pathlib
from typing import Any

import numpy as np

from asymtalker_jax.parity import golden

FOLDER = pathlib.Path(__file__).parent / 'golden'


class Golden(golden.Golden):
  """A golden file that can be asserted against."""

  def check(self, output: str, value: Any) -> None:
    """Asserts that `value` equals `out.<output>` within its tolerance."""
    np.testing.assert_allclose(
        np.asarray(value),
        self.tensors['out.' + output],
        atol=self.atol(output),
        rtol=1e-5,
        err_msg=output,
    )


def load(name: str) -> Golden:
  """Golden file `tests/golden/<name>.safetensors`."""
  found = golden.load(FOLDER / f'{name}.safetensors')
  return Golden(tensors=found.tensors, meta=found.meta)
