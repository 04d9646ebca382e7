"""Files of the networks that the field measures with: what, where from.

They are the user's: nothing is downloaded. SHA-256 of the published files; a
file of another content is used, and its figures say so: they are not
comparable.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import os
import pathlib

from absl import logging
import safetensors

MADE_FROM = 'source_sha256'
_SHOWN = 12  # digits of a checksum
_SYNCNET_SHA256 = (
    '961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
  """One file.

  Attributes:
    name: in the folder.
    source: where it comes from.
    sha256: of the published file, or its first digits where no more is known;
      '' where it is made from another one.
    made_from: SHA-256 of that other one, whose converter keeps it in MADE_FROM
      of the file's metadata; '' where there is none.
  """

  name: str
  source: str
  sha256: str
  made_from: str = ''

  def __str__(self) -> str:
    known = '' if len(self.sha256) == 64 else 'begins with '
    checksum = f', SHA-256 {known}{self.sha256}' if self.sha256 else ''
    return f'{self.name} from {self.source}{checksum}'


INCEPTION = File(
    name='weights-inception-2015-12-05-6726825d.pth',
    source='https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/'
    'weights-inception-2015-12-05-6726825d.pth',
    sha256='6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2',
)
I3D = File(
    name='i3d_torchscript.pt',
    source='https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1'
    ' (StyleGAN-V)',
    sha256='bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2',
)
SYNCNET = File(
    name='syncnet.safetensors',
    source='`asymtalker convert --kind=syncnet-v2 --source=syncnet_v2.model'
    ' --out=DIR/syncnet.safetensors`, where syncnet_v2.model is'
    ' http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model'
    f' (SHA-256 {_SYNCNET_SHA256})',
    sha256='',
    made_from=_SYNCNET_SHA256,
)
FACES = File(
    name='face_detection_yunet_2023mar.onnx',
    source='https://github.com/opencv/opencv_zoo/raw/main/models/'
    'face_detection_yunet/face_detection_yunet_2023mar.onnx',
    sha256='8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4',
)
ARCFACE = File(
    name='w600k_r50.onnx',
    source='buffalo_l.zip of https://github.com/deepinsight/insightface/'
    'releases/tag/v0.7',
    sha256='4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43',
)
ALEXNET = File(
    name='alexnet-owt-7be5be79.pth',
    source='https://download.pytorch.org/models/alexnet-owt-7be5be79.pth',
    sha256='7be5be79',
)
LPIPS = File(
    name='alex.pth',
    source='https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/'
    'weights/v0.1/alex.pth',
    sha256='df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0',
)
LANDMARKS = File(
    name='face_landmarker.task',
    source='https://storage.googleapis.com/mediapipe-models/face_landmarker/'
    'face_landmarker/float16/1/face_landmarker.task',
    sha256='64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff',
)
# Metric -> the files that it reads.
OF_METRIC = {
    'fid': (INCEPTION,),
    'fvd': (I3D,),
    'sync': (SYNCNET, FACES),
    'arcface': (ARCFACE, FACES),
    'lpips': (ALEXNET, LPIPS),
    'blinks': (LANDMARKS, FACES),
}


def find(
    metrics: Iterable[str], folder: str | os.PathLike | None
) -> dict[str, pathlib.Path]:
  """Name of a file -> its path, for the files of these metrics.

  Raises:
    FileNotFoundError: files are missing; where each comes from is logged, one
      line each.
  """
  files = dict.fromkeys(f for metric in metrics for f in OF_METRIC[metric])
  if not files:
    return {}
  root = pathlib.Path(folder or '')
  absent = [f for f in files if not folder or not (root / f.name).is_file()]
  if absent:
    for file in absent:
      logging.error('missing: %s', file)
    raise FileNotFoundError(
        f'--weights_dir={folder or ""}: {len(absent)} of {len(files)} files are'
        f' missing: {", ".join(file.name for file in absent)} (sources above).'
        ' Figures that are not wanted are left out of --metrics'
    )
  return {file.name: root / file.name for file in files}


def digest(path: pathlib.Path) -> str:
  """SHA-256 of a file."""
  with open(path, 'rb') as content:
    return hashlib.file_digest(content, 'sha256').hexdigest()


def others(
    metric: str, files: Mapping[str, pathlib.Path]
) -> tuple[str, ...]:
  """What is not the published file among those of a metric, a line for each.

  Args:
    metric: one of OF_METRIC.
    files: of `find`.
  """
  lines = [_other(files[file.name], file) for file in OF_METRIC[metric]]
  for line in filter(None, lines):
    logging.warning('%s: %s, so figures are not comparable', metric, line)
  return tuple(filter(None, lines))


def _other(path: pathlib.Path, file: File) -> str:
  """In what a file differs from the published one; '' for that one."""
  if file.made_from:
    return _other_source(path, file)
  found = digest(path)
  if found.startswith(file.sha256):
    return ''
  return f'{file.name} is another file, SHA-256 {found[:_SHOWN]}'


def _other_source(path: pathlib.Path, file: File) -> str:
  """The same of a file that was converted."""
  try:
    with safetensors.safe_open(path, 'numpy') as content:
      found = (content.metadata() or {}).get(MADE_FROM)
  except safetensors.SafetensorError:
    return ''  # Whoever loads it says what is wrong.
  if found == file.made_from:
    return ''
  if found is None:
    return (
        f'{file.name} does not say what it was converted from, SHA-256'
        f' {digest(path)[:_SHOWN]}'
    )
  return (
      f'{file.name} was converted from another file, SHA-256 {found[:_SHOWN]}'
  )
