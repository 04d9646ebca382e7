"""ArcFace's network around onnxruntime: what it is given, what is refused."""

import sys

import numpy as np
import pytest

from asymtalker_jax.evals import networks
from tests.evals import tiny_onnx


def write(path, *shape):
  """A network that returns its input, flat."""
  path.write_bytes(tiny_onnx.model(
      [tiny_onnx.node('Flatten', 'input.1', '683')], {'input.1': shape},
      {'683': ('n', 'features')},
  ))  # pyformat: disable
  return path


def test_it_gets_red_first_channels_first_in_minus_one_to_one(tmp_path):
  pytest.importorskip('onnxruntime')
  embed = networks.embedder(write(tmp_path / 'a.onnx', 'n', 3, 112, 112))
  crops = np.zeros((18, 112, 112, 3), np.uint8)  # More than are run at once.
  crops[..., 0], crops[..., 2] = 255, 51
  crops[17, 5, 7] = 102, 204, 0
  found = embed(crops)
  assert found.shape == (18, 3 * 112 * 112) and found.dtype == np.float32
  seen = found.reshape(18, 3, 112, 112)
  colour = np.array([1.0, -1.0, -0.6]).reshape(3, 1, 1)
  np.testing.assert_allclose(
      seen[:17], np.broadcast_to(colour, (17, 3, 112, 112)), atol=1e-6
  )
  np.testing.assert_allclose(seen[17, :, 5, 7], [-0.2, 0.6, -1.0], atol=1e-6)
  np.testing.assert_allclose(seen[17, :, 7, 5], colour[:, 0, 0], atol=1e-6)


@pytest.mark.parametrize('shape', [
    ('n', 3, 160, 160), ('n', 112, 112, 3), ('n', 3), (1, 3, 112, 112),
])  # pyformat: disable
def test_a_network_of_other_pictures_is_refused(tmp_path, shape):
  pytest.importorskip('onnxruntime')
  path = write(tmp_path / 'a.onnx', *shape)
  with pytest.raises(ValueError, match=r'expected one of \[n, 3, 112, 112\]'):
    networks.embedder(path)


def test_a_damaged_file_is_refused(tmp_path):
  pytest.importorskip('onnxruntime')
  path = write(tmp_path / 'a.onnx', 'n', 3, 112, 112)
  whole = path.read_bytes()
  for content in (b'', b'something else', whole[: len(whole) // 2]):
    path.write_bytes(content)
    with pytest.raises(ValueError, match='a.onnx: not a network for onnxr'):
      networks.embedder(path)


def test_without_onnxruntime_it_says_how_to_install_it(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[eval\]'"):
    networks.embedder(write(tmp_path / 'a.onnx', 'n', 3, 112, 112))
