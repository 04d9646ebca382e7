"""Reads the recorded inputs and outputs of the reference networks."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import safetensors

FOLDER = pathlib.Path(__file__).parent / 'golden'


@dataclasses.dataclass(frozen=True)
class Golden:
  """Tensors of one file by prefix, and its metadata."""

  tensors: dict[str, np.ndarray]
  meta: dict[str, Any]

  def weights(self, prefix: str = '') -> dict[str, np.ndarray]:
    """Reference state dict: tensors under 'weights.<prefix>'."""
    start = 'weights.' + prefix
    return {
        k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)
    }

  def atol(self, output: str) -> float:
    """Recommended absolute tolerance of `out.<output>` in float32."""
    return float(self.meta['noise'][output]['recommended_atol'])

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
  with safetensors.safe_open(FOLDER / f'{name}.safetensors', 'np') as file:
    return Golden(
        tensors={k: file.get_tensor(k) for k in file.keys()},
        meta=json.loads(file.metadata()['golden']),
    )
