"""Builds a raw dataset, or encodes one into latents and audio features.

  asymtalker data build --dataset=puppets --out=DIR
  asymtalker data build --dataset=videos --source=DIR --size=512 --out=DIR
  asymtalker data encode --config=configs/encode.py:tiny --data=DIR \\
      --vae=BUNDLE --out=DIR

`videos` cuts clips of one face from the videos in a folder: SOURCE/PERSON/x.mp4
or SOURCE/x.mp4, or the same below SOURCE/train and SOURCE/test. Files that
cannot be read are left out and named, and the exit code is 1.

All go on where they stopped when they are run again. To encode on many
machines, start the same command on each, numbered: --worker=0 --workers=64,
--worker=1 --workers=64, ...; each writes every 64th shard, in any order. Or let
Apache Beam do it: --workers=64 --beam_options='--runner=...'.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
DATASETS = ('puppets', 'videos')
WORDS = ('build', 'encode')
_PUPPETS = ('clips_train', 'clips_test', 'seed', 'clips_per_identity')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  for name, default, text in (
      ('dataset', 'puppets', 'build: which, one of ' + ', '.join(DATASETS)),
      ('source', None, 'build videos: folder of videos; required'),
      ('out', None, 'folder to write; required'),
      ('data', None, 'encode: folder of `data build`'),
      ('vae', None, 'encode: bundle with a VAE'),
      ('beam_options', None, 'encode: run --workers parts under Apache Beam '
       "with these options; '' is Beam's direct runner on this machine")):
    flags.DEFINE_string(name, default, text, flag_values=values)
  for name, default, text in (
      ('clips_train', 1600, 'build puppets: clips of the split train'),
      ('clips_test', 100, 'build puppets: clips of the split test'),
      ('frames', 176, 'build: video frames per clip, at 25 fps'),
      ('size', 128, 'build: height and width of the frames in pixels'),
      ('seed', 0, 'build puppets: which; other seeds share no identity'),
      ('clips_per_identity', 1, 'build puppets: clips of the same puppet'),
      ('workers', None, 'build: processes, by default 2, with 0 in this one; '
       'encode: parts of the work, by default 1'),
      ('worker', 0, 'encode: which part to do here')):
    flags.DEFINE_integer(name, default, text, flag_values=values)
  config_flags.DEFINE_config_file(
      'config', None, 'encode: values, for example configs/encode.py:tiny',
      flag_values=values)


def main(argv: Sequence[str]) -> int:
  """Runs the verb; `argv` is what absl leaves: the command and its words.

  Returns:
    0, or 1 if videos could not be read.
  """
  words = [word for word in argv[1:] if word != 'data']
  if len(words) != 1 or words[0] not in WORDS:
    raise ValueError(
        f'{" ".join(words) or "no command"}: expected one of {list(WORDS)}')
  if words[0] == 'encode':
    _require('config', 'data', 'vae', 'out')
    return _encode()
  if FLAGS.dataset not in DATASETS:
    raise ValueError(f'dataset {FLAGS.dataset!r} is unknown; expected one of '
                     f'{list(DATASETS)}')
  workers = 2 if FLAGS.workers is None else FLAGS.workers
  if workers < 0:
    raise ValueError(f'workers={workers} is negative; expected 0 or more')
  _require('out')
  return {'puppets': _puppets, 'videos': _videos}[FLAGS.dataset](workers)


# Imports are late: opencv and espeak-ng are what only builders need, and jax
# only the encoding.
# pylint: disable=import-outside-toplevel
def _puppets(workers: int) -> int:
  from data.puppets import build
  from data.puppets import puppets_dataset_builder as puppets
  _refuse('source')
  recipe = puppets.Recipe(
      frames=FLAGS.frames, size=FLAGS.size,
      **{name: getattr(FLAGS, name) for name in _PUPPETS})
  _report('puppets', build.build(FLAGS.out, recipe, workers))
  return 0


def _videos(workers: int) -> int:
  from data.videos import build
  from data.videos import videos_dataset_builder as videos
  _refuse(*_PUPPETS)
  _require('source')
  recipe = videos.Recipe(frames=FLAGS.frames, size=FLAGS.size)
  summary = build.build(FLAGS.out, FLAGS.source, recipe, workers)
  print(summary.text())
  _report('videos', summary.clips)
  return int(summary.broken > 0)


def _encode() -> int:
  arguments = FLAGS.config, FLAGS.data, FLAGS.vae, FLAGS.out
  workers = 1 if FLAGS.workers is None else FLAGS.workers
  if FLAGS.beam_options is None:
    from asymtalker_jax.train import encode_dataset
    counts = encode_dataset.encode_dataset(*arguments, FLAGS.worker, workers)
  else:
    from asymtalker_jax.train import encode_on_beam
    _refuse('worker')
    counts = encode_on_beam.encode_dataset(
        *arguments, workers, FLAGS.beam_options)
  _report('encoded', counts)
  return 0
# pylint: enable=import-outside-toplevel


def _require(*names: str) -> None:
  missing = [name for name in names if getattr(FLAGS, name) is None]
  if missing:
    raise ValueError('missing ' + ', '.join(f'--{n}' for n in missing))


def _refuse(*names: str) -> None:
  """Raises for a flag that was given and would not be read."""
  given = [name for name in names if FLAGS[name].present]
  if given:
    raise ValueError(', '.join(f'--{n}' for n in given) + ' has no meaning '
                     'here; see asymtalker data --help')


def _report(name: str, counts: dict[str, int]) -> None:
  done = ', '.join(f'{count} {split}' for split, count in counts.items())
  print(f'{name}: {done} clips in {FLAGS.out}')
