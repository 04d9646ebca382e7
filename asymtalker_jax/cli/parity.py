"""`asymtalker parity`: this port against recorded outputs of the originals.

Recognises what a golden file holds from its metadata, converts its weights
through the tables that `asymtalker convert` uses, computes every recorded
output and prints its error. Exit code 0: all within the file's tolerances; 1:
some are not.
"""

from collections.abc import Sequence
import json
import os

from absl import flags

FLAGS = flags.FLAGS
USAGE = 'usage: asymtalker parity --golden=FILE.safetensors [--json=FILE]'


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('golden', None, 'file of recorded inputs, weights and '
                      'outputs', flag_values=values)
  flags.DEFINE_string('json', None, 'file to write the comparison to',
                      flag_values=values)
  flags.mark_flags_as_required(['golden'], values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; 0 if every output is within its tolerance, else 1."""
  # pylint: disable-next=import-outside-toplevel
  from asymtalker_jax.parity import check

  del argv
  report = check.run(FLAGS.golden)
  width = max(len('output'), *(len(row.output) for row in report.rows))
  print(f'{report.file}: {report.kind}, {report.reference}')
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
    _write(FLAGS.json, report.as_dict())
  return 0 if report.passed else 1


def _number(value: float | None) -> str:
  return f'{"-":>9}' if value is None else f'{value:9.2e}'


def _write(path: str, values: dict) -> None:
  """JSON, whole or not at all."""
  temporary = f'{path}.{os.getpid()}.tmp'
  try:
    with open(temporary, 'w', encoding='utf-8') as file:
      json.dump(values, file, indent=1)
      file.write('\n')
    os.replace(temporary, path)
  finally:
    if os.path.exists(temporary):
      os.remove(temporary)
