"""Inception, I3D and LPIPS through PyTorch; the only file that imports it.

Each is a function of uint8 frames. PyTorch is imported when one is loaded, so
the package works without it.
"""

from collections.abc import Callable
import os
import pickle

import numpy as np

_LPIPS_SHIFT = (-0.030, -0.088, -0.188)
_LPIPS_SCALE = (0.458, 0.448, 0.450)
# (features, kernel, stride, padding, max pool before) of AlexNet; its keys are
# features.0, 3, 6, 8, 10.
_ALEXNET = {
    '0': (4, 2, False), '3': (1, 2, True), '6': (1, 1, True),
    '8': (1, 1, False), '10': (1, 1, False),
}  # pyformat: disable


def _torch():
  """PyTorch.

  Raises:
    ModuleNotFoundError: says how to install it.
  """
  try:
    import torch  # pylint: disable=import-outside-toplevel
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "FID, FVD and LPIPS need PyTorch: pip install -e '.[eval]'"
    ) from error
  return torch


# What PyTorch raises where a file is damaged or of another network.
_DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, LookupError)


def _load(path: str | os.PathLike):
  """A state dict, without running code of the file."""
  torch = _torch()
  try:
    return torch.load(path, map_location='cpu', weights_only=True)
  except _DAMAGED as error:
    raise ValueError(f'{path}: not a plain PyTorch state dict') from error


def inception(
    path: str | os.PathLike,
) -> Callable[[np.ndarray], np.ndarray]:
  """Features [n, 2048] of frames [n, H, W, 3] uint8.

  The network of 2015-12-05 with TensorFlow's way of resizing, by
  torch-fidelity, which its FID is equal to.

  Raises:
    ModuleNotFoundError: torch-fidelity is missing, or cannot be imported.
    ValueError: a damaged file, or another network.
  """
  torch = _torch()
  try:
    # pylint: disable-next=import-outside-toplevel
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity
  except (ImportError, RuntimeError) as error:
    raise ModuleNotFoundError(
        "FID needs torch-fidelity: pip install -e '.[eval]', with torch and"
        f' torchvision of one build (both for CPU or both for CUDA): {error}'
    ) from error
  _load(path)  # torch-fidelity itself would run code of the file.
  try:
    network = fidelity.FeatureExtractorInceptionV3(
        'inception-v3-compat', ['2048'],
        feature_extractor_weights_path=os.fspath(path),
    ).eval()  # pyformat: disable
  except _DAMAGED as error:
    raise ValueError(f'{path}: not Inception of 2015-12-05') from error

  def features(frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
      x = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
      return network(x)[0].numpy()

  return features


def i3d(path: str | os.PathLike) -> Callable[[np.ndarray], np.ndarray]:
  """Features [n, 400] of clips [n, T, H, W, 3] uint8, as StyleGAN-V takes them:
  the network resizes to 224x224 and scales to [-1, 1] itself.

  Raises:
    ValueError: not the TorchScript file.
  """
  torch = _torch()
  try:
    network = torch.jit.load(os.fspath(path), map_location='cpu').eval()
  except RuntimeError as error:
    raise ValueError(f'{path}: not a TorchScript network') from error

  def features(clips: np.ndarray) -> np.ndarray:
    with torch.no_grad():
      x = torch.from_numpy(np.ascontiguousarray(
          clips.transpose(0, 4, 1, 2, 3)
      ))
      return network(
          x.float(), rescale=True, resize=True, return_features=True
      ).numpy()

  return features


def _lpips_weights(backbone, calibration) -> tuple[list, list]:
  """Layers of AlexNet (kernel, bias, and how), and the weights per channel.

  Raises:
    ValueError: files of other networks.
  """
  state, weights = _load(backbone), _load(calibration)
  try:
    layers = [
        (state[f'features.{n}.weight'], state[f'features.{n}.bias'], *how)
        for n, how in _ALEXNET.items()
    ]
    mixes = [weights[f'lin{i}.model.1.weight'] for i in range(len(layers))]
  except KeyError as error:
    raise ValueError(
        f'{backbone}, {calibration}: no {error}; expected AlexNet of'
        ' torchvision and LPIPS 0.1 for it'
    ) from error
  return layers, mixes


def lpips(
    backbone: str | os.PathLike, calibration: str | os.PathLike
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Distance [n] of frames to frames, both [n, H, W, 3] uint8.

  LPIPS 0.1 on AlexNet (Zhang et al. 2018): unit-length features of five layers,
  squared differences weighted per channel, averaged over pixels, summed.

  Raises:
    ValueError: files of other networks.
  """
  torch = _torch()
  layers, mixes = _lpips_weights(backbone, calibration)
  functional = torch.nn.functional

  def unit_features(frames: np.ndarray):
    x = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    x = x.float() / 127.5 - 1.0
    column = lambda values: torch.tensor(values).view(1, 3, 1, 1)
    x = (x - column(_LPIPS_SHIFT)) / column(_LPIPS_SCALE)
    for weight, bias, stride, padding, pooled in layers:
      if pooled:
        x = functional.max_pool2d(x, 3, 2)
      x = functional.relu(
          functional.conv2d(x, weight, bias, stride, padding)
      )
      norm = torch.sqrt(torch.sum(x**2, dim=1, keepdim=True))
      yield x / (norm + 1e-10)

  def distance(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    with torch.no_grad():
      total = 0.0
      for a, b, mix in zip(unit_features(frames), unit_features(truth), mixes):
        total = total + functional.conv2d((a - b) ** 2, mix).mean((1, 2, 3))
      return total.numpy()

  return distance
