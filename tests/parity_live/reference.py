"""The reference packages with random weights, and how close is close enough."""

import numpy as np
import pytest

torch = pytest.importorskip(
    'torch', reason="needs pip install -e '.[parity]'"
)


def package(name: str):
  """diffusers or transformers, or the test is skipped."""
  found = pytest.importorskip(
      name, reason="needs pip install -e '.[parity]'"
  )
  found.utils.logging.set_verbosity_error()
  return found


def randomise(model, seed: int = 0):
  """Gives every parameter and statistic an influence; zeros would hide."""
  generator = torch.Generator().manual_seed(seed)
  for name, value in model.state_dict().items():
    draw = torch.randn(value.shape, generator=generator)
    if name.endswith(('std', 'weight_g', 'original0')):
      value.copy_(1 + 0.2 * draw.abs())
    elif value.ndim < 2 or name.endswith('gamma') or 'norm' in name:
      value.copy_((0.0 if 'bias' in name else 1.0) + 0.2 * draw)
    else:
      fan_in = value[0].numel()
      value.copy_(draw / fan_in**0.5)
  return model.eval()


def weights(model) -> dict[str, np.ndarray]:
  """Its state dict as NumPy arrays."""
  return {k: v.numpy() for k, v in model.state_dict().items()}


def normal(*shape: int, seed: int = 1) -> np.ndarray:
  """Standard normal float32."""
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def run(model, call) -> tuple[np.ndarray, float]:
  """What the reference computes, and how far rounding moves it.

  Args:
    model: of the reference package.
    call: (model, cast) -> tensor; `cast` makes one of the model's type.

  Returns:
    The float32 output and an absolute tolerance: 8 times its distance from the
    same computed in float64, at least 1e-5 of its largest value.
  """
  outputs = []
  with torch.no_grad():
    for dtype in (torch.float64, torch.float32):
      cast = lambda x, dtype=dtype: torch.from_numpy(np.asarray(x)).to(dtype)
      outputs.append(call(model.to(dtype), cast).double().numpy())
  exact, single = outputs
  atol = max(8 * np.abs(single - exact).max(), 1e-5 * np.abs(exact).max())
  return single, float(atol)


def check(ours, theirs: tuple[np.ndarray, float]) -> None:
  """Asserts that our output is theirs within rounding."""
  wanted, atol = theirs
  assert np.std(wanted) > 1e-3  # A constant would prove nothing.
  np.testing.assert_allclose(np.asarray(ours), wanted, atol=atol, rtol=0)
