"""Flags of the verbs that run on clusters, and joining the run."""

from collections.abc import Sequence
import os
import sys

from absl import flags
from absl import logging

FLAGS = flags.FLAGS
VERBS = ('train-teacher', 'train-student')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags; TPU, SLURM and Open MPI need none of them."""
  flags.DEFINE_string(
      'coordinator', None, 'HOST:PORT of process 0, for a run of several'
      ' processes', flag_values=values)
  flags.DEFINE_integer(
      'num_processes', None, 'how many processes the run has', lower_bound=1,
      flag_values=values)
  flags.DEFINE_integer(
      'process_id', None, 'which of them this is', lower_bound=0,
      flag_values=values)
  flags.DEFINE_float(
      'join_timeout_s', 300.0, 'seconds to wait for the other processes',
      lower_bound=1.0, flag_values=values)


def join(names: Sequence[str]) -> None:
  """Joins the processes of the run, if there are any others.

  Args:
    names: of the flags whose values all processes must share.

  Raises:
    ValueError: see `parallel.distributed`. An absent process ends this one
      with exit code 2.
  """
  from asymtalker_jax.parallel import distributed  # pylint: disable=import-outside-toplevel

  found = distributed.find_cluster(
      FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
  if found is None:
    return
  try:
    distributed.start(found, FLAGS.join_timeout_s)
  except TimeoutError as error:
    # JAX still waits in a thread, and would have the last word at the exit.
    print(f'asymtalker: {error}', file=sys.stderr, flush=True)
    os._exit(2)
  shared = {n: str(FLAGS[n].value) for n in names if n != 'process_id'}
  distributed.check_same('flags', str(shared))
  import jax  # pylint: disable=import-outside-toplevel

  if jax.process_index():
    logging.set_verbosity(logging.WARNING)
