r"""Trains and validates the puppet reader that `asymtalker evaluate` uses.

  asymtalker train-reader --config=configs/reader.py:tiny --data=work/puppets \
      --out=work/reader
"""

from collections.abc import Sequence
import os

from absl import flags
from ml_collections import config_flags
import numpy as np

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb, for the dispatcher to call."""
  config_flags.DEFINE_config_file(
      'config', None, 'values, for example configs/reader.py:tiny',
      flag_values=values,
  )
  flags.DEFINE_string('data', None, 'folder of `asymtalker data build`',
                      flag_values=values)
  flags.DEFINE_string('out', None, 'folder to write the reader to',
                      flag_values=values)
  flags.mark_flags_as_required(['config', 'data', 'out'], values)


def alterations(clips) -> dict:
  """Name -> function that spoils frames in a way a reader should see through."""
  import cv2  # pylint: disable=g-import-not-at-top

  from asymtalker_jax.train import reader as training  # pylint: disable=g-import-not-at-top

  rng = np.random.default_rng(0)
  count = min(len(clips), 32)
  others = np.stack([clips[i].frames[0] for i in range(count)])

  def blurred(frames):
    return np.stack([cv2.GaussianBlur(f, (0, 0), 1.0) for f in frames])

  def other_surroundings(frames):
    picked = others[rng.integers(0, len(others), len(frames))]
    return training.swap_surroundings(frames, picked)

  return {
      'clean': None,
      'blurred_sigma_1': blurred,
      'other_surroundings': other_surroundings,
  }


def main(argv: Sequence[str]) -> None:
  """Runs the verb."""
  from asymtalker_jax.evals import reader as reader_lib  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import reader_validation  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.evals import report  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.inputs import source  # pylint: disable=g-import-not-at-top
  from asymtalker_jax.train import reader as training  # pylint: disable=g-import-not-at-top

  del argv
  config = FLAGS.config.to_dict()
  model, train = config['model'], config['train']
  clips = source.open_clips(FLAGS.data, 'train')
  test = source.open_clips(FLAGS.data, 'test')
  samples = training.draw_samples(
      clips, model['tracks'], train['frames_per_clip'], train['seed']
  )
  model, params, history = training.fit(model, train, samples)
  weights = reader_lib.save(FLAGS.out, model, params)
  reader = reader_lib.load(FLAGS.out)
  figures = {
      name: reader_validation.validate(reader, test, alter)
      for name, alter in alterations(test).items()
  }
  report.write_json(
      os.path.join(FLAGS.out, 'validation.json'),
      {'train_clips': len(clips), 'validation': figures, 'history': history,
       'config': config, 'bytes': weights.stat().st_size},
  )
  clean = figures['clean']
  print(
      f'reader: {weights.stat().st_size / 1000:.0f} KB, mouth '
      f'{clean["tracks"]["mouth"]["per_clip"]:.3f}, yaw '
      f'{clean["tracks"]["yaw"]["per_clip"]:.3f}, identity AUC '
      f'{clean["identity"]["auc"]:.4f}, in {FLAGS.out}'
  )
