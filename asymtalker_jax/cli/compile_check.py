"""Compiles a training or generation step for TPUs that are not there.

  asymtalker compile-check --config=configs/student.py:pro --topology=v5e:16x16

Prints memory per chip, operations, collectives and the best possible step
time. Needs the TPU compiler: pip install -e '.[tpu]'. Exit code 1: a
step does not fit the chip; the largest buffers are named.

The mesh is the config's: --config.mesh.fsdp=32 --config.mesh.seq=4, and so is
the rest: --config.batch_size=64 --config.microbatches=2 --config.remat=dots.
"""

from collections.abc import Sequence
import json
import os

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
KINDS = ('teacher', 'student', 'generation')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  config_flags.DEFINE_config_file(
      'config', None, 'values, for example configs/student.py:pro',
      flag_values=values)
  flags.DEFINE_string(
      'topology', None, 'chip and shape of the slice, for example v5e:16x16',
      flag_values=values)
  flags.DEFINE_integer(
      'slices', 1, 'slices of that shape', lower_bound=1, flag_values=values)
  flags.DEFINE_enum(
      'kind', None, KINDS, 'what to compile; by default what the config is of',
      flag_values=values)
  flags.DEFINE_string('out', None, 'JSON file to write', flag_values=values)
  flags.mark_flags_as_required(['config', 'topology'], values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb."""
  # The machine's own accelerators, if any, are not looked at.
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax.parallel import mesh as mesh_lib
  from asymtalker_jax.train import compile_report
  # pylint: enable=import-outside-toplevel

  del argv
  config = FLAGS.config
  kind = FLAGS.kind or ('student' if 'distillation' in config else 'teacher')
  chip = compile_report.CHIPS.get(FLAGS.topology.partition(':')[0])
  devices = compile_report.devices(FLAGS.topology, FLAGS.slices)
  mesh = mesh_lib.make_mesh(**config.mesh, devices=devices)
  print(f'{kind} {config.variant} on {FLAGS.slices} x {FLAGS.topology}: mesh '
        + ' x '.join(f'{name}={size}' for name, size in mesh.shape.items()),
        flush=True)
  reports = []
  for program in _programs(kind, config, mesh):
    reports.append(compile_report.check(program, mesh, chip))
    print(compile_report.text_of(reports[-1], chip), flush=True)
  if FLAGS.out:
    _write(FLAGS.out, dict(
        kind=kind, variant=config.variant, topology=FLAGS.topology,
        slices=FLAGS.slices, mesh=dict(mesh.shape), remat=config.remat,
        microbatches=config.microbatches, programs=reports))
  return 0 if all(report['fits'] for report in reports) else 1


def _programs(kind, config, mesh):
  """The programs of a kind.

  Raises:
    ValueError: a config of another kind.
  """
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax.generate import chunk_program, long_video
  from asymtalker_jax.models import variants
  from asymtalker_jax.train import program, student, teacher
  # pylint: enable=import-outside-toplevel

  if ('distillation' in config) != (kind != 'teacher'):
    name = 'teacher' if kind == 'teacher' else 'student'
    raise ValueError(f'--kind={kind}: expected a config of configs/{name}.py')
  if kind != 'generation':
    return dict(teacher=teacher, student=student)[kind].programs(config, mesh)
  sample = long_video.few_step(config.sampler.timesteps, config.flow.shift)
  chunk, args = chunk_program.chunk_program(
      variants.build(variants.values_of(config.variant)), sample,
      config.continuity_carry, config.batch_size, mesh)
  import jax  # pylint: disable=import-outside-toplevel
  return [program.Program(
      name='generation', function=jax.jit(chunk), args=args, trips={},
      examples=config.batch_size, plain=lambda: chunk)]


def _write(path: str, report) -> None:
  """Writes the report under a temporary name, then renames it."""
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  with open(path + '.part', 'w', encoding='utf-8') as file:
    json.dump(report, file, indent=1)
    file.write('\n')
  os.replace(path + '.part', path)
