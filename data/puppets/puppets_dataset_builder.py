"""TFDS builder of the puppets; works without TensorFlow.

`build.py` writes the same examples in parallel; this class is their
declaration, and the usual TFDS way (`download_and_prepare`) to small sets.
"""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from data import codec
from data.puppets import clip as clip_lib

VERSION = '1.0.0'
# Seeds of one build are consecutive; the splits get disjoint ranges.
SEEDS_PER_BUILD, TEST_OFFSET = 10_000_000, 5_000_000

DESCRIPTION = (
    'Procedurally rendered talking heads: cartoon faces at 25 fps that speak '
    'sentences of the espeak-ng synthesiser at 16 kHz, with ground-truth '
    'tracks of mouth, pose and blinks. Splits share no identity and no '
    'sentence.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """What is built; two builds of one recipe are equal.

  Attributes:
    clips_train: clips of the split 'train'.
    clips_test: clips of the split 'test'.
    frames: video frames per clip at 25 fps.
    size: height and width in pixels.
    seed: which puppets; different seeds share no identity.
    clips_per_identity: clips in which the same puppet is seen.
  """

  clips_train: int = 1600
  clips_test: int = 100
  frames: int = 176
  size: int = 128
  seed: int = 0
  clips_per_identity: int = 1

  def __post_init__(self):
    limits = {'clips_train': (0, TEST_OFFSET), 'clips_test': (0, TEST_OFFSET),
              'frames': (5, 100_000), 'size': (32, 2048),
              'seed': (0, 2**31), 'clips_per_identity': (1, TEST_OFFSET)}
    for name, (low, high) in limits.items():
      value = getattr(self, name)
      if not low <= value <= high:
        raise ValueError(f'{name}={value} is out of range; expected an integer '
                         f'from {low} to {high}')
    if self.size % 2:
      raise ValueError(f'size={self.size} is odd; expected an even number of '
                       'pixels')

  def clips(self, split: str) -> int:
    """Number of clips of a split."""
    return {'train': self.clips_train, 'test': self.clips_test}[split]

  def seeds(self, split: str, index: int) -> tuple[int, int]:
    """(identity seed, take) of clip `index` of a split."""
    identity, take = divmod(index, self.clips_per_identity)
    offset = TEST_OFFSET if split == 'test' else 0
    return self.seed * SEEDS_PER_BUILD + offset + identity, take


def features() -> tfds.features.FeaturesDict:
  """Declaration of one example; bytes are TFDS scalars of dtype object."""
  track = tfds.features.Tensor(shape=(None,), dtype=np.float32)
  raw = tfds.features.Tensor(shape=(), dtype=np.object_)
  return tfds.features.FeaturesDict({
      'video': raw, 'audio': raw,
      'identity': tfds.features.Scalar(np.int64),
      'take': tfds.features.Scalar(np.int64),
      'tracks': {name: track for name in clip_lib.TRACKS},
  })


def make_example(recipe: Recipe, split: str, index: int) -> dict[str, object]:
  """Example `index` of a split, from its seeds alone."""
  identity, take = recipe.seeds(split, index)
  clip = clip_lib.make_clip(identity, take, split=split, frames=recipe.frames,
                            size=recipe.size)
  return {'video': codec.encode_video(clip.frames, tune='animation'),
          'audio': codec.encode_audio(clip.waveform),
          'identity': clip.identity, 'take': take, 'tracks': dict(clip.tracks)}


class Puppets(tfds.core.GeneratorBasedBuilder):
  """TFDS builder; pass `file_format='array_record'` and a Recipe."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, recipe: Recipe = Recipe(), **kwargs):
    self.recipe = recipe
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(builder=self, description=DESCRIPTION,
                                 features=features(), disable_shuffling=True)

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {split: self._generate_examples(split)
            for split in ('train', 'test')}

  def _generate_examples(self, split: str):
    for index in range(self.recipe.clips(split)):
      yield index, make_example(self.recipe, split, index)
