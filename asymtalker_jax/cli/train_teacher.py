"""`asymtalker train-teacher`: flow matching on the ground-truth path."""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
USAGE = ('usage: asymtalker train-teacher --config=configs/teacher.py:tiny '
         '--data=DIR --workdir=DIR')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  config_flags.DEFINE_config_file(
      'config', None, 'values, for example configs/teacher.py:tiny',
      flag_values=values)
  flags.DEFINE_string('data', None, 'folder of `asymtalker data encode`',
                      flag_values=values)
  flags.DEFINE_string('workdir', None, 'folder of this run; continued if there',
                      flag_values=values)
  flags.mark_flags_as_required(['config', 'data', 'workdir'], values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax.train import teacher  # pylint: disable=import-outside-toplevel

  del argv
  result = teacher.train(FLAGS.config, FLAGS.data, FLAGS.workdir)
  print(f'teacher: step {result.step} ({result.stopped}), bundle in '
        f'{FLAGS.workdir}/bundle')
