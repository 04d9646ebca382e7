"""Builds a raw dataset, or encodes one into latents and audio features.

  asymtalker data build --dataset=puppets --out=DIR
  asymtalker data encode --config=configs/encode.py:tiny --data=DIR \\
      --vae=BUNDLE --out=DIR

Both go on where they stopped when they are run again. To encode on many
machines, start the same command on each, numbered: --worker=0 --workers=64,
--worker=1 --workers=64, ...; each writes every 64th shard, in any order.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

FLAGS = flags.FLAGS
DATASETS = ('puppets',)
WORDS = ('build', 'encode')


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  flags.DEFINE_string('dataset', 'puppets',
                      f'build: which dataset, one of {", ".join(DATASETS)}',
                      flag_values=values)
  flags.DEFINE_string('out', None, 'folder to write; required',
                      flag_values=values)
  for name, default, text in (
      ('clips_train', 1600, 'build: clips of the split train'),
      ('clips_test', 100, 'build: clips of the split test'),
      ('frames', 176, 'build: video frames per clip, at 25 fps'),
      ('size', 128, 'build: height and width of the frames in pixels'),
      ('seed', 0, 'build: which puppets; other seeds share no identity'),
      ('clips_per_identity', 1, 'build: clips of the same puppet'),
      ('workers', None, 'build: processes that render, by default 2, with 0 in'
       ' this one; encode: that write into --out, by default 1'),
      ('worker', 0, 'encode: which of them this is')):
    flags.DEFINE_integer(name, default, text, flag_values=values)
  config_flags.DEFINE_config_file(
      'config', None, 'encode: values, for example configs/encode.py:tiny',
      flag_values=values)
  flags.DEFINE_string('data', None, 'encode: folder of `data build`',
                      flag_values=values)
  flags.DEFINE_string('vae', None, 'encode: bundle with a VAE',
                      flag_values=values)


def run_build(dataset: str, out: str, *, clips_train: int = 1600,
              clips_test: int = 100, frames: int = 176, size: int = 128,
              seed: int = 0, clips_per_identity: int = 1,
              workers: int = 2) -> dict[str, int]:
  """Builds a dataset by the flags of the command; returns clips per split.

  Raises:
    ValueError, OSError: unknown dataset, value out of range, or a folder that
      holds something else or cannot be written.
  """
  if dataset not in DATASETS:
    raise ValueError(f'dataset {dataset!r} is unknown; expected one of '
                     f'{list(DATASETS)}')
  if workers < 0:
    raise ValueError(f'workers={workers} is negative; expected 0 or more')
  # Imported late: opencv and espeak-ng are extras that only builders need.
  # pylint: disable=import-outside-toplevel
  from data.puppets import build
  from data.puppets import puppets_dataset_builder as puppets
  # pylint: enable=import-outside-toplevel
  recipe = puppets.Recipe(clips_train=clips_train, clips_test=clips_test,
                          frames=frames, size=size, seed=seed,
                          clips_per_identity=clips_per_identity)
  return build.build(out, recipe, workers)


def main(argv: Sequence[str]) -> None:
  """Runs the verb; `argv` is what absl leaves: the command and its words."""
  words = [word for word in argv[1:] if word != 'data']
  if len(words) != 1 or words[0] not in WORDS:
    raise ValueError(
        f'asymtalker data {" ".join(words)}: expected one of {list(WORDS)}')
  needed = {'build': ('out',), 'encode': ('config', 'data', 'vae', 'out')}
  missing = [n for n in needed[words[0]] if getattr(FLAGS, n) is None]
  if missing:
    raise ValueError('missing ' + ', '.join(f'--{n}' for n in missing))
  if words[0] == 'encode':
    from asymtalker_jax.train import encode_dataset  # pylint: disable=import-outside-toplevel
    workers = 1 if FLAGS.workers is None else FLAGS.workers
    counts = encode_dataset.encode_dataset(
        FLAGS.config, FLAGS.data, FLAGS.vae, FLAGS.out, FLAGS.worker, workers)
    name = 'encoded'
  else:
    counts = run_build(
        FLAGS.dataset, FLAGS.out, clips_train=FLAGS.clips_train,
        clips_test=FLAGS.clips_test, frames=FLAGS.frames, size=FLAGS.size,
        seed=FLAGS.seed, clips_per_identity=FLAGS.clips_per_identity,
        workers=2 if FLAGS.workers is None else FLAGS.workers)
    name = FLAGS.dataset
  done = ', '.join(f'{count} {split}' for split, count in counts.items())
  print(f'{name}: {done} clips in {FLAGS.out}')
