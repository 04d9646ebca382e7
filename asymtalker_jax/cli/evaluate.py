r"""Measures a bundle, or videos made by any program, against ground truth.

  asymtalker evaluate --bundle=tiny --data=work/puppets --clips=16 \
      --out=work/evaluation
  asymtalker evaluate --bundle=tiny --data=work/puppets --clips=4 \
      --roles=student,teacher --out=work/comparison
  asymtalker evaluate --bundle=tiny --data=work/puppets --clips=0 \
      --seconds=600 --out=work/drift
  asymtalker evaluate --videos=peers/sonic,peers/ditto --data=hdtf.jsonl \
      --clips=100 --weights_dir=weights --out=work/peers

--data is a dataset folder, or a manifest (JSON lines or CSV) with the columns
video (ground truth) and, where they differ from it, image, audio and name; a
folder of --videos holds NAME.mp4 for each of them, and for the tasks of
--seconds. Where it has none of them yet, or lacks a long one, portraits and
speech of what is to be made are written to OUT/tasks. Writes
metrics.json, table.md, curves.png and frames.png; for long videos drift.png,
drift.html and drift_frames.png; for --published paper_table.md, .tex, .png and
.json. Generated videos are kept in OUT/videos, and a run that is started again
goes on behind them.

Exit code 1: a video could not be read or measured, or a bound of --gate is
broken; the output says which.
"""

from collections.abc import Sequence
import dataclasses

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  for name, default, text in (
      ('bundle', 'tiny', 'name of a bundled model, or a bundle folder'),
      ('data', None, 'folder of `asymtalker data build`, or a manifest; '
       'required'),
      ('split', 'test', 'split of the data'),
      ('out', None, 'folder to write to; required'),
      ('reader', None, 'folder of another puppet reader than the bundled'),
      ('weights_dir', None, 'folder with the files of the networks'),
      ('published', None, "hdtf or vfhq: also the paper's table, with what was "
       'published on it'),
      ('part', None, 'I/N: make every N-th clip and long video from the I-th '
       'on and score nothing, as one of N processes')):  # pyformat: disable
    flags.DEFINE_string(name, default, text, flag_values=values)
  for name, default, text in (
      ('roles', ['student'], 'student, teacher or both, which compares them'),
      ('steps', [], "sampler steps of each role, by default the student's own "
       'and 20 of the teacher'),
      ('videos', [], 'folders of videos to measure instead of a bundle, PATH '
       'or NAME=PATH; one with --seconds'),
      ('metrics', [], 'groups of figures; by default pixels,puppets for '
       'puppets, and pixels,fid,fvd,sync,arcface,lpips,blinks for other'
       ' data'),
      ('compare', [], 'folders of earlier runs: writes drift.html of their '
       'long videos and the table of --published, measures nothing')):  # pyformat: disable
    flags.DEFINE_list(name, default, text, flag_values=values)
  flags.DEFINE_enum('carry', None, ['reencode', 'latent'],
                    "continuity between chunks, by default the bundle's own",
                    flag_values=values)
  for name, default, text in (
      ('long_videos', 1, 'videos of --seconds, of the first people'),
      ('clips', None, 'clips to evaluate, by default all rows of a manifest'
       ' and 16 clips of a dataset; 0 for the long video only'),
      ('seed', 0, 'of the noise')):
    flags.DEFINE_integer(name, default, text, lower_bound=0,
                         upper_bound=2**32 - 1, flag_values=values)
  for name, default, text in (
      ('seconds', 0.0, 'also a long video of this length, for drift'),
      ('window_s', 10.0, 'length of a window of the drift curves'),
      ('guidance', None, 'of a teacher, by default 3'),
      ('color_correction', None, "0 to 1, by default the bundle's own")):
    flags.DEFINE_float(name, default, text, lower_bound=0.0,
                       flag_values=values)
  config_flags.DEFINE_config_file(
      'gate', None, 'bounds to keep, for example configs/gate.py',
      flag_values=values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; see the exit codes above."""
  # Imported here: these take seconds.
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax.cli import compilation_cache
  from asymtalker_jax.evals import evaluation
  from asymtalker_jax.evals import options as options_lib
  from asymtalker_jax.evals import side_by_side

  if argv[1:]:
    raise ValueError(f'unexpected word {argv[1]!r}; expected flags only')
  for name in ('out',) if FLAGS.compare else ('data', 'out'):
    if not FLAGS[name].value:
      raise ValueError(f'--{name} is missing; see asymtalker evaluate --help')
  if FLAGS.compare:
    if FLAGS.gate is not None:
      raise ValueError(
          '--compare measures nothing; expected --gate in the runs themselves'
      )
    print(side_by_side.compare(FLAGS.compare, FLAGS.out, FLAGS.published))
    return 0
  gate = FLAGS.gate.to_dict() if FLAGS.gate is not None else None
  names = [field.name for field in dataclasses.fields(options_lib.Options)]
  options = options_lib.Options(**{name: FLAGS[name].value for name in names})
  compilation_cache.enable()
  outcome = evaluation.run(options, gate)
  print(f'{outcome.text}\nevaluation in {FLAGS.out}')
  return outcome.code
