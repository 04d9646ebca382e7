"""`asymtalker convert`: released weights of the originals as a bundle.

Every tensor of both sides is accounted for; the bundle appears when all of it
is written. Memory stays below the largest part in the checkpoint's own type.
"""

from collections.abc import Sequence
import hashlib
import json
import os
import shutil

from absl import flags
from absl import logging

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker convert --kind=KIND --source=DIR --out=BUNDLE'


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('kind', None, 'flashhead-pro, flashhead-lite or '
                      'wan2.1-t2v-1.3b', flag_values=values)
  flags.DEFINE_string('source', None, 'folder of the release',
                      flag_values=values)
  flags.DEFINE_string('audio', None, 'folder of wav2vec2-base-960h; by default '
                      'inside or beside --source', flag_values=values)
  flags.DEFINE_string('out', None, 'bundle folder to make', flag_values=values)
  flags.mark_flags_as_required(['kind', 'source', 'out'], values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax import bundle
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.convert import release

  del argv
  if os.path.exists(FLAGS.out):
    raise ValueError(f'{FLAGS.out}: exists; expected the name of a new folder')
  found = release.read(FLAGS.kind, FLAGS.source, FLAGS.audio)
  partial = f'{FLAGS.out.rstrip("/")}.{os.getpid()}.tmp'
  os.makedirs(partial)
  try:
    sums = {}
    for name, part in found.parts.items():
      logging.info('converting %s', name)
      path = os.path.join(partial, f'{name}.safetensors')
      sums[name] = _write(path, dict(bundle.flatten(part.params())))
    config = dict(format=bundle.FORMAT, variant=found.variant,
                  model=found.model, sampler=bundle.SAMPLER, sha256=sums)
    with open(os.path.join(partial, 'config.json'), 'w',
              encoding='utf-8') as file:
      file.write(json.dumps(config, indent=2) + '\n')
    os.rename(partial, FLAGS.out)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  print(f'{", ".join(sums)} in {FLAGS.out}')


def _write(path: str, tensors: dict) -> str:
  """Safetensors, one tensor at a time; returns the SHA-256 of the file."""
  names = {'float32': 'F32', 'float16': 'F16', 'bfloat16': 'BF16'}
  header, end = {}, 0
  for key, value in tensors.items():
    start, end = end, end + value.nbytes
    header[key] = dict(dtype=names[value.dtype.name], shape=list(value.shape),
                       data_offsets=[start, end])
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  total = hashlib.sha256()
  with open(path, 'wb') as file:
    for piece in (len(text).to_bytes(8, 'little'), text):
      file.write(piece)
      total.update(piece)
    for value in tensors.values():
      piece = value.tobytes()
      file.write(piece)
      total.update(piece)
  return total.hexdigest()
