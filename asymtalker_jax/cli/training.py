"""What the training verbs share: their flags and how they end."""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
STOPPED = 143  # Exit code where SIGTERM ended a run before its time.
NOTES = """

Any value of the config can be set: --config.steps=100
--config.optimizer.lr=1e-4; the keys, and the sizes that may stand behind the
':', are in the file. WORKDIR gets config.json, metrics.jsonl, checkpoints/,
samples/, plots, tensorboard/ and, at the end, bundle/. The same command goes on
where a run stopped. Exit codes: 143, SIGTERM came and the state is saved; 3, a
loss is not finite; 75, another process or a file system failed, start again."""
_WORKDIR = 'folder of this run; continued if there'


def define_flags(
    job: str,
    data: str,
    more: Sequence[tuple[str, str]] = (),
    values: flags.FlagValues = FLAGS,
) -> None:
  """Defines the flags of a training verb.

  Args:
    job: name of its file in configs/.
    data: what --data is.
    more: (name, what it is) of its other required flags.
    values: where to define them.
  """
  config_flags.DEFINE_config_file(
      'config', None, f'values, for example configs/{job}.py:tiny',
      flag_values=values)
  required = [('data', data), *more, ('workdir', _WORKDIR)]
  for name, what in required:
    flags.DEFINE_string(name, None, what, flag_values=values)
  flags.DEFINE_string(
      'init_from', None, 'bundle, folder of another run or its'
      ' checkpoints/STEP, whose parameters a'
      ' new run takes over; a run that has a checkpoint goes on from that',
      flag_values=values)
  flags.DEFINE_list(
      'profile_steps', None, 'FIRST,LAST step to trace into WORKDIR/profile',
      flag_values=values)
  names = ['config', *(name for name, _ in required)]
  flags.mark_flags_as_required(names, values)


def config():
  """The config with what the other flags say.

  Raises:
    ValueError: --profile_steps are not numbers.
  """
  values = FLAGS.config
  if FLAGS.init_from is not None:
    values.init_from = FLAGS.init_from
  if FLAGS.profile_steps:
    try:
      values.profile_steps = tuple(map(int, FLAGS.profile_steps))
    except ValueError as error:
      raise ValueError(
          f'--profile_steps={",".join(FLAGS.profile_steps)}: expected two'
          ' numbers, FIRST,LAST'
      ) from error
  return values


def end(name: str, result) -> int:
  """Draws the run, says where a `loop.Result` is; returns the exit code."""
  import jax  # pylint: disable=import-outside-toplevel
  from asymtalker_jax.train import plots  # pylint: disable=import-outside-toplevel

  if not jax.process_index():
    if result.at_end:
      plots.plot_run(FLAGS.workdir)
    where = 'bundle in {}/bundle'
    if result.stopped == 'sigterm':
      where = 'state saved in {}/checkpoints'
    print(f'{name}: {"" if result.new else "already done, "}step {result.step} '
          f'({result.stopped}), {where.format(FLAGS.workdir)}')
  return STOPPED if result.stopped == 'sigterm' else 0
