"""TFDS builder of a folder of videos; works without TensorFlow.

`build.py` writes the same examples in parallel and in parts; this class is
their declaration, and the usual TFDS way (`download_and_prepare`) to small
sets.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from absl import logging
import av
import numpy as np
import tensorflow_datasets as tfds

from asymtalker_jax.generate import portrait
from asymtalker_jax.inputs import video as video_lib
from data import codec
from data.videos import clip as clip_lib
from data.videos import people

VERSION = '1.0.0'

DESCRIPTION = (
    'Clips of talking heads, cut from videos at their scene cuts: one face, in '
    'a fixed square around it, at 25 fps, with its sound at 16 kHz. Splits '
    'share no person.')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """What is made of the videos.

  Attributes:
    frames: video frames per clip at 25 fps.
    size: height and width in pixels.
  """

  frames: int = 176
  size: int = 128

  def __post_init__(self):
    for name, low, high in (('frames', 5, 100_000), ('size', 32, 2048)):
      value = getattr(self, name)
      if not low <= value <= high:
        raise ValueError(f'{name}={value} is out of range; expected an integer '
                         f'from {low} to {high}')
    if self.size % 2:
      raise ValueError(f'size={self.size} is odd; expected an even number of '
                       'pixels')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What became of one video.

  Attributes:
    video: its name below the source folder.
    clips: how many are kept.
    dropped: reason -> clips; of 'scene too short', scenes; 1 for a video that
      has no stream of sound.
    broken: why the file cannot be read to its end, or ''.
  """

  video: str
  clips: int = 0
  dropped: Mapping[str, int] = dataclasses.field(default_factory=dict)
  broken: str = ''


def features() -> tfds.features.FeaturesDict:
  """Declaration of one example; bytes are TFDS scalars of dtype object."""
  raw = tfds.features.Tensor(shape=(), dtype=np.object_)
  return tfds.features.FeaturesDict({
      'video': raw, 'audio': raw,
      'identity': tfds.features.Scalar(np.int64),
      'source': raw,
      'start_frame': tfds.features.Scalar(np.int64),
  })


def look(video: people.Video, recipe: Recipe,
         find_faces: clip_lib.FindFaces = portrait.find_faces
         ) -> tuple[Outcome, list[clip_lib.Plan]]:
  """Decides which clips of a video are kept; reads it once."""
  try:
    if not video_lib.probe(video.path).has_audio:
      return Outcome(video=video.name, dropped={'no sound': 1}), []
    seen = clip_lib.survey(video.path, find_faces)
  except (ValueError, av.FFmpegError) as error:
    # Counted and reported: one bad file must not end a run over thousands.
    reason = str(error).removeprefix(f'{video.path}: ')
    return Outcome(video=video.name, broken=reason), []
  plans, dropped = clip_lib.plan_clips(seen, recipe.frames, recipe.size)
  return Outcome(video=video.name, clips=len(plans),
                 dropped=dict(sorted(dropped.items()))), plans


def make_examples(video: people.Video, plans: Sequence[clip_lib.Plan],
                  recipe: Recipe) -> Iterator[dict[str, object]]:
  """Yields the examples of the clips that `look` keeps; reads it again."""
  if not plans:
    return
  for plan, frames, waveform in clip_lib.cut_clips(
      video.path, plans, recipe.frames, recipe.size):
    yield {'video': codec.encode_video(frames, tune='film'),
           'audio': codec.encode_audio(waveform),
           'identity': video.identity, 'source': video.name,
           'start_frame': plan.start}


class Videos(tfds.core.GeneratorBasedBuilder):
  """TFDS builder; pass `file_format='array_record'`, a folder and a Recipe."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, *, source: str, recipe: Recipe = Recipe(), **kwargs):
    self.source, self.recipe = source, recipe
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(builder=self, description=DESCRIPTION,
                                 features=features(), disable_shuffling=True)

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    videos = people.find_videos(self.source)
    return {split: self._generate_examples(
        [v for v in videos if v.split == split]) for split in people.SPLITS}

  def _generate_examples(self, videos: Sequence[people.Video]):
    key = 0  # Keys are numbers: TFDS keeps their order.
    for video in videos:
      outcome, plans = look(video, self.recipe)
      if outcome.broken:
        logging.warning('%s: %s', outcome.video, outcome.broken)
      for example in make_examples(video, plans, self.recipe):
        yield key, example
        key += 1
