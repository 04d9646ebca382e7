"""Inception, I3D and LPIPS around PyTorch, with made-up weights."""

import os
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.evals import torch_networks

torch = pytest.importorskip('torch')
RNG = np.random.default_rng(0)
# (key, shape of the kernel, stride, padding, max pool before) of AlexNet with
# few channels.
LAYERS = (
    ('0', (4, 3, 11, 11), 4, 2, False), ('3', (5, 4, 5, 5), 1, 2, True),
    ('6', (6, 5, 3, 3), 1, 1, True), ('8', (4, 6, 3, 3), 1, 1, False),
    ('10', (3, 4, 3, 3), 1, 1, False),
)  # pyformat: disable


def frames(*shape):
  return RNG.integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.fixture(scope='module')
def weights():
  state, mixes = {}, {}
  for index, (key, shape, *_) in enumerate(LAYERS):
    kernel = RNG.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
    state[f'features.{key}.weight'] = kernel.astype(np.float32)
    state[f'features.{key}.bias'] = RNG.normal(0, 0.1, shape[0]).astype(
        np.float32
    )
    mixes[f'lin{index}.model.1.weight'] = RNG.random(
        (1, shape[0], 1, 1), np.float32
    )
  return state, mixes


def saved(folder, weights):
  paths = folder / 'alexnet.pth', folder / 'alex.pth'
  for path, values in zip(paths, weights):
    torch.save({k: torch.from_numpy(v) for k, v in values.items()}, path)
  return paths


def by_formula(weights, a, b):
  """LPIPS of one pair of frames [H, W, 3], in JAX."""
  state, mixes = weights

  def unit_features(frame):
    # What lpips calls its scaling layer: of images in [-1, 1].
    x = (jnp.float32(frame) / 127.5 - 1 - jnp.array([-0.030, -0.088, -0.188]))
    x = (x / jnp.array([0.458, 0.448, 0.450])).transpose(2, 0, 1)[None]
    for key, _, stride, padding, pooled in LAYERS:
      if pooled:
        x = jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), 'VALID'
        )
      x = jax.lax.conv_general_dilated(
          x, state[f'features.{key}.weight'], (stride, stride),
          [(padding, padding)] * 2,
      )  # pyformat: disable
      x = jax.nn.relu(x + state[f'features.{key}.bias'][None, :, None, None])
      yield x[0] / (jnp.linalg.norm(x[0], axis=0) + 1e-10)

  return sum(
      (mixes[f'lin{i}.model.1.weight'][0] * (x - y) ** 2).sum(0).mean()
      for i, (x, y) in enumerate(zip(unit_features(a), unit_features(b)))
  )


def test_lpips_is_its_formula_and_zero_between_equals(tmp_path, weights):
  distance = torch_networks.lpips(*saved(tmp_path, weights))
  a, b = frames(2, 64, 72), frames(2, 64, 72)
  found = distance(a, b)
  expected = [by_formula(weights, *pair) for pair in zip(a, b)]
  assert found.shape == (2,) and min(found) > 0.01
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  np.testing.assert_array_equal(distance(a, a), np.zeros(2))
  np.testing.assert_allclose(distance(b, a), found, rtol=1e-5)


def test_lpips_of_other_files_is_refused(tmp_path, weights):
  other = {'lin0.weight': np.zeros(1, np.float32)}
  paths = saved(tmp_path, (weights[0], other))
  with pytest.raises(ValueError, match='expected AlexNet of torchvision'):
    torch_networks.lpips(*paths)
  paths[1].write_bytes(b'something else')
  with pytest.raises(ValueError, match='not a plain PyTorch state dict'):
    torch_networks.lpips(*paths)


class I3d(torch.nn.Module):
  """Returns what it was given: two pixels, the flags, the sizes."""

  def forward(
      self, x: torch.Tensor, rescale: bool = False, resize: bool = False,
      return_features: bool = False,
  ) -> torch.Tensor:  # pyformat: disable
    given = [
        float(rescale), float(resize), float(return_features),
        float(x.shape[1]), float(x.shape[2]), float(x.shape[3]),
        float(x.shape[4]),
    ]  # pyformat: disable
    rest = torch.tensor(given).expand(len(x), 7)
    pixels = torch.stack([x[:, 0, 1, 2, 3], x[:, 2, 3, 0, 5]], 1)
    return torch.cat([pixels, rest], 1)


def test_i3d_gets_whole_clips_of_channels_first_and_resizes_itself(tmp_path):
  torch.jit.script(I3d()).save(tmp_path / 'i3d.pt')
  features = torch_networks.i3d(tmp_path / 'i3d.pt')
  clips = frames(2, 4, 10, 12)
  found = features(clips)
  assert found.dtype == np.float32
  # In 0 .. 255: the network rescales.
  np.testing.assert_array_equal(found[:, 0], clips[:, 1, 2, 3, 0])
  np.testing.assert_array_equal(found[:, 1], clips[:, 3, 0, 5, 2])
  np.testing.assert_array_equal(found[:, 2:], [[1, 1, 1, 3, 4, 10, 12]] * 2)
  (tmp_path / 'i3d.pt').write_bytes(b'something else')
  with pytest.raises(ValueError, match='not a TorchScript network'):
    torch_networks.i3d(tmp_path / 'i3d.pt')


@pytest.fixture
def made(monkeypatch):
  """What torch-fidelity's class is made with; it returns two pixels."""
  calls = []

  class Extractor:

    def __init__(self, *words, feature_extractor_weights_path):
      calls.append((words, feature_extractor_weights_path))

    def eval(self):
      return self

    def __call__(self, x):
      assert x.dtype == torch.uint8 and not torch.is_grad_enabled()
      return (torch.stack([x[:, 0, 1, 2], x[:, 2, 3, 0]], 1).float(),)

  fidelity = types.ModuleType('torch_fidelity')
  fidelity.feature_extractor_inceptionv3 = types.SimpleNamespace(
      FeatureExtractorInceptionV3=Extractor
  )
  monkeypatch.setitem(sys.modules, 'torch_fidelity', fidelity)
  return calls


def test_inception_gets_bytes_of_channels_first_and_resizes_itself(
    tmp_path, made
):
  path = tmp_path / 'weights.pth'
  torch.save({'fc.bias': torch.zeros(2)}, path)
  features = torch_networks.inception(path)
  shown = frames(3, 10, 12)
  found = features(shown)
  np.testing.assert_array_equal(found[:, 0], shown[:, 1, 2, 0])
  np.testing.assert_array_equal(found[:, 1], shown[:, 3, 0, 2])
  assert made == [(('inception-v3-compat', ['2048']), str(path))]


class Hostile:

  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return os.system, (f'touch {self.mark}',)


def test_inceptions_file_runs_no_code(tmp_path, made):
  mark, path = tmp_path / 'ran', tmp_path / 'weights.pth'
  torch.save({'fc.bias': Hostile(mark)}, path)
  with pytest.raises(ValueError, match='not a plain PyTorch state dict'):
    torch_networks.inception(path)
  assert not mark.exists() and not made


@pytest.mark.parametrize('line', [
    "raise RuntimeError('operator torchvision::nms does not exist')",
    'import no_such_module',
])
def test_a_torch_fidelity_that_cannot_be_imported_is_named(
    tmp_path, monkeypatch, line
):
  (tmp_path / 'torch_fidelity.py').write_text(line)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'torch_fidelity', raising=False)
  with pytest.raises(ModuleNotFoundError, match='torchvision of one build'):
    torch_networks.inception('weights.pth')
