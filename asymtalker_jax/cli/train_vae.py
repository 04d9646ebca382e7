"""`asymtalker train-vae`: trains the video VAE on a raw dataset."""

from collections.abc import Sequence

from absl import flags

from asymtalker_jax.cli import training

FLAGS = flags.FLAGS
USAGE = ('usage: asymtalker train-vae --config=configs/vae.py:tiny --data=DIR '
         '--workdir=DIR' + training.NOTES)


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  training.define_flags('vae', 'folder of `asymtalker data build`', values=values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; 143 where SIGTERM ended it before its time."""
  from asymtalker_jax.train import vae  # pylint: disable=import-outside-toplevel

  del argv
  result = vae.train(training.config(), FLAGS.data, FLAGS.workdir)
  return training.end('VAE', result)
