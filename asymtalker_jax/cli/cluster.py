"""Flags of the verbs that run on clusters, and joining the run."""

from collections.abc import Sequence
import os
import sys

from absl import flags
from absl import logging

FLAGS = flags.FLAGS
VERBS = ('train-teacher', 'train-student')
# Exit code that asks for another start (EX_TEMPFAIL): nothing of the input is
# wrong, but another process is absent or a file system failed.
RETRY = 75


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
      with exit code RETRY.
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
    os._exit(RETRY)
  shared = {n: str(FLAGS[n].value) for n in names if n != 'process_id'}
  distributed.check_same('flags', str(shared))
  import jax  # pylint: disable=import-outside-toplevel

  if jax.process_index():
    logging.set_verbosity(logging.WARNING)


def is_joined() -> bool:
  """Whether this process is one of several."""
  jax = sys.modules.get('jax')
  return jax is not None and jax.distributed.is_initialized()


def leave(code: int) -> int:
  """Ends a process that others are joined with; else returns the code.

  An ordinary exit would wait in JAX for the others, which wait for this one in
  their next collective, and after minutes abort with a code of its own.
  """
  if not is_joined():
    return code
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
