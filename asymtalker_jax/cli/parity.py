"""`asymtalker parity`: this port against recorded outputs of the originals.

Recognises what a golden file holds from its metadata, converts its weights
through the tables that `asymtalker convert` uses, computes every recorded
output and prints its error. Exit code 0: all within the file's tolerances; 1:
some are not. With --dtype=bfloat16 the networks run as the released models do,
and the tolerances are what the rounding of that type explains.
"""

from collections.abc import Sequence
import json

from absl import flags

from asymtalker_jax import files

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker parity --golden=FILE.safetensors [--json=FILE]'


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('golden', None, 'file of recorded inputs, weights and '
                      'outputs', flag_values=values)
  flags.DEFINE_string('json', None, 'file to write the comparison to',
                      flag_values=values)
  flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'of the '
                    'matrix products', flag_values=values)
  flags.mark_flags_as_required(['golden'], values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; 0 if every output is within its tolerance, else 1."""
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.parity import check

  del argv
  if FLAGS.json:
    files.check_place(FLAGS.json, '--json=')
  report = check.run(FLAGS.golden, FLAGS.dtype)
  width = max(len('output'), *(len(row.output) for row in report.rows))
  print(f'{report.file}: {report.kind}, {report.dtype}, {report.reference}')
  print(f'{"output":{width}}  {"max error":>9}  {"relative":>9}  '
        f'{"tolerance":>9}  pass')
  for row in report.rows:
    print(f'{row.output:{width}}  {_number(row.max_abs_error)}  '
          f'{_number(row.relative_error)}  {row.tolerance:9.2e}  '
          f'{"yes" if row.passed else "NO"}'
          + (f'  {row.note}' if row.note else ''))
  passed = sum(row.passed for row in report.rows)
  print(f'{passed} of {len(report.rows)} outputs within their tolerance')
  if FLAGS.json:
    text = json.dumps(report.as_dict(), indent=1) + '\n'
    files.write(FLAGS.json, text.encode())
  return 0 if report.passed else 1


def _number(value: float | None) -> str:
  return f'{"-":>9}' if value is None else f'{value:9.2e}'
