"""The public layout of SyncNet v2, syncnet_v2.model of joonson/syncnet_python.

The checkpoint is a state dict of two towers, netcnnlip with netfclip and
netcnnaud with netfcaud. Ours becomes one safetensors file.
"""

import hashlib
import os
from typing import Any

from absl import logging
import numpy as np
import safetensors.numpy

from asymtalker_jax.convert import reader
from asymtalker_jax.convert import rules
from asymtalker_jax.models.metric import syncnet

KIND = 'syncnet-v2'
SOURCE = (
    'http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model'
)
SHA256 = '961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442'
# Of a convolution and, one after it, its norm, in either nn.Sequential.
_CONVOLUTIONS = (0, 4, 8, 11, 14, 18)
_TOWERS = (('lip', 'netcnnlip', 'netfclip'), ('audio', 'netcnnaud', 'netfcaud'))


def _one_frame(x: np.ndarray) -> np.ndarray:
  """[out, in, 1, h, w] -> [out, in, h, w]."""
  if x.ndim != 5 or x.shape[2] != 1:
    raise ValueError(f'shape {x.shape}: expected [out, in, 1, height, width]')
  return x[:, :, 0]


_FLAT = rules.chain(
    rules.Transform(_one_frame, lambda x: x[:, :, None]), rules.CONV2D
)


def _norm(source: str, target: str) -> list[rules.Rule]:
  pairs = (('weight', 'scale'), ('bias', 'bias'), ('running_mean', 'mean'),
           ('running_var', 'variance'))  # pyformat: disable
  return [rules.Rule(f'{source}.{a}', f'{target}/{b}') for a, b in pairs]


def table() -> rules.Table:
  """Every key of the checkpoint."""
  found = []
  for name, convolutions, head in _TOWERS:
    for index, number in enumerate(_CONVOLUTIONS):
      layout = rules.CONV2D
      if name == 'lip':
        layout = _FLAT if index else rules.CONV3D
      source, target = f'{convolutions}.{number}', f'{name}_{index}'
      found += [
          rules.Rule(f'{source}.weight', f'{target}/conv/kernel', layout),
          rules.Rule(f'{source}.bias', f'{target}/conv/bias'),
          *_norm(f'{convolutions}.{number + 1}', f'{target}/norm'),
      ]
    for source, target in ((f'{head}.0', 'dense_0'), (f'{head}.3', 'dense_1')):
      found += [
          rules.Rule(f'{source}.weight', f'{name}_head/{target}/kernel',
                     rules.LINEAR),
          rules.Rule(f'{source}.bias', f'{name}_head/{target}/bias'),
      ]  # pyformat: disable
    found += _norm(f'{head}.1', f'{name}_head/norm')
  return rules.Table(rules=tuple(found), ignore=(r'.*\.num_batches_tracked',))


def convert(tensors: Any) -> dict[str, Any]:
  """Parameters of `models.metric.syncnet` from a state dict.

  Raises:
    ValueError: keys or shapes of another network; all are listed.
  """
  return rules.convert(tensors, table(), syncnet.targets())


def convert_file(source: str, out: str) -> str:
  """Writes syncnet.safetensors of syncnet_v2.model, with its SHA-256.

  Args:
    source: the checkpoint.
    out: file to write, or the folder for a file of the usual name.

  Returns:
    The path that was written.

  Raises:
    FileNotFoundError: no such checkpoint.
    ValueError: another network, or PyTorch is missing.
  """
  if not os.path.isfile(source):
    raise FileNotFoundError(f'{source}: no such file; from {SOURCE}')
  with open(source, 'rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if found != SHA256:
    logging.warning(
        '%s: SHA-256 %s; the published file has %s', source, found, SHA256
    )
  if not out.endswith('.safetensors'):
    out = os.path.join(out, 'syncnet.safetensors')
  params = rules.flatten(convert(reader.open_checkpoint(source)))
  os.makedirs(os.path.dirname(out) or '.', exist_ok=True)
  temporary = f'{out}.{os.getpid()}.part'
  try:
    with open(temporary, 'wb') as file:
      file.write(safetensors.numpy.save(
          {k: np.ascontiguousarray(v) for k, v in params.items()},
          metadata={'source_sha256': found},  # evals/weights.py reads it.
      ))
    os.replace(temporary, out)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
  return out
