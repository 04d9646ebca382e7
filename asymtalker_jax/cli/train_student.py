"""`asymtalker train-student`: asymmetric distillation into few steps."""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
USAGE = ('usage: asymtalker train-student --config=configs/student.py:tiny '
         '--data=DIR --teacher=BUNDLE --workdir=DIR')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  config_flags.DEFINE_config_file(
      'config', None, 'values, for example configs/student.py:tiny',
      flag_values=values)
  flags.DEFINE_string('data', None, 'folder of `asymtalker data encode`',
                      flag_values=values)
  flags.DEFINE_string('teacher', None, 'bundle of `asymtalker train-teacher`',
                      flag_values=values)
  flags.DEFINE_string('workdir', None, 'folder of this run; continued if there',
                      flag_values=values)
  flags.mark_flags_as_required(['config', 'data', 'teacher', 'workdir'], values)


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax.train import student  # pylint: disable=import-outside-toplevel

  del argv
  result = student.train(
      FLAGS.config, FLAGS.data, FLAGS.teacher, FLAGS.workdir)
  print(f'student: step {result.step} ({result.stopped}), bundle in '
        f'{FLAGS.workdir}/bundle')
