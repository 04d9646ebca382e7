"""`asymtalker train-teacher`: flow matching on the ground-truth path."""

from collections.abc import Sequence

from absl import flags

from asymtalker_jax.cli import training

FLAGS = flags.FLAGS
USAGE = ('usage: asymtalker train-teacher --config=configs/teacher.py:tiny '
         '--data=DIR --workdir=DIR' + training.NOTES)


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  training.define_flags(
      'teacher', 'folder of `asymtalker data encode`', values=values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; 143 where SIGTERM ended it before its time."""
  from asymtalker_jax.train import teacher  # pylint: disable=import-outside-toplevel

  del argv
  result = teacher.train(training.config(), FLAGS.data, FLAGS.workdir)
  return training.end('teacher', result)
