r"""`asymtalker convert`: released weights of the originals as a bundle.

Every tensor of both sides is accounted for; the bundle appears when all of it
is written, in the types of the checkpoint. Memory stays below two of the
largest tensors, all layers of one matrix. `asymtalker export` goes back.

  asymtalker convert --kind=syncnet-v2 --source=syncnet_v2.model \
      --out=WEIGHTS/syncnet.safetensors

makes one file, which `asymtalker evaluate --weights_dir=WEIGHTS` reads.
"""

from collections.abc import Sequence
import os
import shutil

from absl import flags
from absl import logging

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker convert --kind=KIND --source=DIR --out=BUNDLE'


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('kind', None, 'flashhead-pro, flashhead-lite, '
                      'wan2.1-t2v-1.3b or syncnet-v2', flag_values=values)
  flags.DEFINE_string('source', None, 'folder of the release, or '
                      'syncnet_v2.model', flag_values=values)
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
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.convert import syncnet

  del argv
  if FLAGS.kind == syncnet.KIND:
    print(f'SyncNet in {syncnet.convert_file(FLAGS.source, FLAGS.out)}')
    return
  kinds = (*release.KINDS, syncnet.KIND)
  if FLAGS.kind not in kinds:
    raise ValueError(f'--kind={FLAGS.kind}: expected one of {", ".join(kinds)}')
  if os.path.exists(FLAGS.out):
    raise ValueError(f'{FLAGS.out}: exists; expected the name of a new folder')
  found = release.read(FLAGS.kind, FLAGS.source, FLAGS.audio)
  partial = f'{FLAGS.out.rstrip("/")}.{os.getpid()}.tmp'
  os.makedirs(partial)
  try:
    logging.info('writing %s', ', '.join(found.parts))
    bundle.save(
        partial, variant=found.variant, model=found.model,
        params={name: bundle.unflatten(part.tensors)
                for name, part in found.parts.items()},
        sampler=found.sampler, dtype=None, origin=found.origin)
    os.rename(partial, FLAGS.out)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  print(f'{", ".join(found.parts)} in {FLAGS.out}')
