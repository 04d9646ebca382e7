"""Self-rollout path: what the distillation trains on.

The first K windows of a clip in order, one identity reference for all of them,
and the audio of each. The student itself reads the audio and the reference
only; the latents are for the teacher's view and the regression term.
"""

import dataclasses
from typing import Mapping

import grain
import numpy as np

from asymtalker_jax.inputs import audio
from asymtalker_jax.types import ChunkPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentWindows(grain.transforms.RandomMap):
  """Encoded example -> fields of `StudentBatch`, without the batch axis.

  Attributes:
    plan: geometry of the chunk.
    chunks: K, windows per example; a clip with more gives a random run of K.
  """

  plan: ChunkPlan
  chunks: int

  def random_map(
      self, element: Mapping[str, np.ndarray], rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns latents [K,T,H,W,C], reference [T,H,W,C], audio [K,F,5,L,A]."""
    spare = len(element['latents']) - self.chunks
    if spare < 0:
      raise ValueError(
          f'encoded clip has {len(element["latents"])} windows, the student'
          f' needs chunks={self.chunks}'
      )
    first = int(rng.integers(spare + 1))
    reference = int(rng.integers(len(element['reference_latents'])))
    windows = range(first, first + self.chunks)
    return {
        'latents': element['latents'][first : windows.stop].astype(np.float32),
        'reference': element['reference_latents'][reference].astype(np.float32),
        'audio': np.stack([
            audio.window_features(
                element['audio'], j * self.plan.new_frames, self.plan.frames
            )
            for j in windows
        ]).astype(np.float32),
    }
