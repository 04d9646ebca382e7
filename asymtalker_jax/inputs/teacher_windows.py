"""Ground-truth path: what the teacher trains on.

One random window of a clip, the reference latents of one frame outside it, and
the audio of the same frames. The continuity is the ground truth: the first
latent frames of the window itself, because the VAE is causal.
"""

import dataclasses
from typing import Mapping

import grain
import numpy as np

from asymtalker_jax.inputs import audio
from asymtalker_jax.types import ChunkPlan


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherWindow(grain.transforms.RandomMap):
  """Encoded example -> fields of `TeacherBatch`, without the batch axis.

  Attributes:
    plan: geometry of the chunk.
  """

  plan: ChunkPlan

  def random_map(
      self, element: Mapping[str, np.ndarray], rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    """Returns latents [T,H,W,C], reference [T,H,W,C], audio [F,5,L,A]."""
    window = int(rng.integers(len(element['latents'])))
    reference = int(rng.integers(len(element['reference_latents'])))
    return {
        'latents': element['latents'][window].astype(np.float32),
        'reference': element['reference_latents'][reference].astype(np.float32),
        'audio': audio.window_features(
            element['audio'], window * self.plan.new_frames, self.plan.frames
        ).astype(np.float32),
    }
