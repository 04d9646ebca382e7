r"""Runs the points of a sweep one after another and collects their table.

  asymtalker sweep --config=configs/sweeps/akd.py
  asymtalker sweep --config=configs/sweeps/akd.py --points=shared
  asymtalker sweep --config=configs/sweeps/akd.py --point=3

A point is one arm with one seed: a few commands of asymtalker in a row. What is
finished is not run again and the rest goes on where it stopped, whenever it was
killed. On a cluster: --points=shared first, then every --point=I as a job of
its own. Each run writes OUT/SWEEP/results.json, table.md and figures.png of
what is finished so far; sweeps with the same --out share data and models.

Exit code 1: a point failed; the others were run.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
_STOPPED = (130, 143)  # Ctrl-C, SIGTERM


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  config_flags.DEFINE_config_file(
      'config', None, 'arms and commands, for example configs/sweeps/akd.py',
      flag_values=values)
  flags.DEFINE_string('out', 'work/ablations', 'folder to write to',
                      flag_values=values)
  flags.DEFINE_integer('point', None, 'run this point only; what all share '
                       'must be finished', flag_values=values)
  flags.DEFINE_string('points', None, "A-B: run these points; 'shared': only "
                      'what all share', flag_values=values)
  flags.mark_flags_as_required(['config'], values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; see the exit codes above."""
  # Imported here: these take seconds.
  # pylint: disable=import-outside-toplevel
  import jax

  from asymtalker_jax.cli import compilation_cache
  from asymtalker_jax.cli import main as cli
  from asymtalker_jax.evals import sweep_plan
  from asymtalker_jax.evals import sweep_table

  if argv[1:]:
    raise ValueError(f'unexpected word {argv[1]!r}; expected flags only')
  plan = sweep_plan.make(FLAGS.config.to_dict(), FLAGS.out)
  points = sweep_plan.chosen(plan, FLAGS.point, FLAGS.points)
  alone = FLAGS.point is not None
  # The stages define flags of the same names.
  cli.forget_flags(('config', 'out', 'point', 'points'))
  compilation_cache.enable()
  for stage in (*plan.shared, *(s for p in plan.points for s in p.stages)):
    stage.cost()  # Raises where it was made in another way.
  if alone and any(stage.cost() is None for stage in plan.shared):
    raise ValueError(
        f'--point={points[0].index}: what all points share is not finished;'
        ' expected a run with --points=shared before'
    )
  code = _run(cli, 'shared', plan.shared)
  if code:
    return code
  failed = []
  for point in points:
    code = _run(cli, f'point {point.index}, {point.name}', point.stages)
    if code in _STOPPED:
      return code
    failed += [f'{point.index} ({point.name})'] if code else []
    jax.clear_caches()  # Of programs that no other point runs.
  print(sweep_table.write(plan) + f'sweep in {plan.folder}')
  if failed:
    print(f'{len(failed)} points failed: {", ".join(failed)}')
  return int(bool(failed))


def _run(cli, name: str, stages) -> int:
  """Runs the stages that are not finished, up to one that fails; its code."""
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.evals import sweep_clock

  for stage in stages:
    if stage.cost() is not None:
      continue
    print(f'{name}: {stage.command}', flush=True)
    stage.folder.parent.mkdir(parents=True, exist_ok=True)
    inputs = stage.inputs()  # A file may be edited while the command runs.
    with sweep_clock.running(stage) as spent:
      code = cli.main(stage.words)
    if code:
      return code
    stage.finish(spent, inputs)
  return 0
