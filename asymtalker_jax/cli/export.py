r"""`asymtalker export`: a bundle, smaller, or in the files of other code.

  bundle         the same parts as a bundle, in one type
  flashhead      folders that SoulX-FlashHead's own code loads (Model_Pro or
                 Model_Lite, its VAE, wav2vec2), for pro and lite bundles
  diffusers-vae  config.json and weights of AutoencoderKLWan or
                 AutoencoderKLLTXVideo

Converted weights go back bit for bit. Memory stays below a few of the largest
tensors.
"""

from collections.abc import Sequence
import os
import shutil

from absl import flags

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker export --bundle=DIR --out=DIR [--format=bundle]'
_DTYPES = ['float32', 'float16', 'bfloat16']


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('bundle', None, 'bundle of a training, or a name',
                      flag_values=values)
  flags.DEFINE_string('out', None, 'folder to write', flag_values=values)
  flags.DEFINE_enum('format', 'bundle', ['bundle', 'flashhead',
                    'diffusers-vae'], 'of the files', flag_values=values)
  flags.DEFINE_enum('dtype', None, _DTYPES, 'type of the stored weights; by '
                    'default bfloat16 for a bundle, else that of the weights '
                    'they were converted from', flag_values=values)
  flags.mark_flags_as_required(['bundle', 'out'], values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax import bundle  # pylint: disable=import-outside-toplevel

  del argv
  source = bundle.open_bundle(FLAGS.bundle)
  if FLAGS.format == 'bundle':
    dtype = FLAGS.dtype or 'bfloat16'
    bundle.save(
        FLAGS.out, variant=source.config['variant'],
        model=source.config['model'], params=source.params,
        sampler=source.config['sampler'], dtype=dtype, origin=source.origin)
    what = f'{", ".join(source.params)} as {dtype}'
  else:
    what = ', '.join(_write_files(source))
  size = sum(os.path.getsize(os.path.join(folder, name))
             for folder, _, names in os.walk(FLAGS.out) for name in names)
  print(f'{what}: {size / 1e6:.1f} MB in {FLAGS.out}')


def _write_files(source) -> list[str]:
  """Writes a new folder, whole or not at all; returns what is in it."""
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.convert import export

  if os.path.exists(FLAGS.out):
    raise ValueError(f'{FLAGS.out}: exists; expected the name of a new folder')
  found = export.files(source, FLAGS.format, FLAGS.dtype)
  partial = f'{FLAGS.out.rstrip("/")}.{os.getpid()}.tmp'
  os.makedirs(partial)
  try:
    export.write(partial, found)
    os.rename(partial, FLAGS.out)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return [name for name in found if not name.endswith('.json')]
