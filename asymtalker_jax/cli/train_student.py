"""`asymtalker train-student`: asymmetric distillation into few steps."""

from collections.abc import Sequence

from absl import flags

from asymtalker_jax.cli import training

FLAGS = flags.FLAGS
USAGE = ('usage: asymtalker train-student --config=configs/student.py:tiny '
         '--data=DIR --teacher=BUNDLE --workdir=DIR' + training.NOTES)


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  training.define_flags(
      'student', 'folder of `asymtalker data encode`',
      [('teacher', 'bundle of `asymtalker train-teacher`')], values=values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; 143 where SIGTERM ended it before its time."""
  from asymtalker_jax.train import student  # pylint: disable=import-outside-toplevel

  del argv
  result = student.train(
      training.config(), FLAGS.data, FLAGS.teacher, FLAGS.workdir)
  return training.end('student', result)
