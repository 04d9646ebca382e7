"""`asymtalker export`: a trained bundle, smaller and ready to hand on."""

from collections.abc import Sequence
import os

from absl import flags

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker export --bundle=DIR --out=DIR [--dtype=bfloat16]'


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('bundle', None, 'bundle of a training, or a name',
                      flag_values=values)
  flags.DEFINE_string('out', None, 'folder to write', flag_values=values)
  flags.DEFINE_enum('dtype', 'bfloat16', ['float32', 'float16', 'bfloat16'],
                    'type of the stored weights', flag_values=values)
  flags.mark_flags_as_required(['bundle', 'out'], values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax import bundle  # pylint: disable=import-outside-toplevel

  del argv
  source = bundle.load(FLAGS.bundle, parts=bundle.parts_of(FLAGS.bundle))
  bundle.save(
      FLAGS.out, variant=source.config['variant'], model=source.config['model'],
      params=source.params, sampler=source.config['sampler'], dtype=FLAGS.dtype)
  size = sum(os.path.getsize(os.path.join(FLAGS.out, name))
             for name in os.listdir(FLAGS.out))
  print(f'{", ".join(source.params)} as {FLAGS.dtype}: {size / 1e6:.1f} MB in '
        f'{FLAGS.out}')
