"""Clips of a box that gets brighter with speech, and a reader that saw none."""

import jax
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.models.metric import puppet_reader

SIDE = 32
READER = dict(
    tracks=['mouth', 'yaw', 'pitch', 'blink'], embedding=8, widths=[8, 8, 8],
    features=8, size=SIDE, track_mean=[0.0] * 4, track_std=[1.0] * 4,
)


def clip(seed: int, frames: int) -> types.Clip:
  """Person `seed`: a grey of its own, noise as mouth and as speech."""
  rng = np.random.default_rng(seed)
  video = np.full((frames, SIDE, SIDE, 3), 90 + seed, np.uint8)
  mouth = rng.random(frames).astype(np.float32)
  video[:, 8:16, 8:16] = (255 * mouth[:, None, None, None]).astype(np.uint8)
  return types.Clip(
      frames=video, identity=seed, tracks={'mouth': mouth},
      waveform=rng.normal(0, 0.1, 640 * frames).astype(np.float32),
  )


def params() -> types.Params:
  """Random weights of a reader."""
  return jax.jit(lambda key: puppet_reader.init(READER, key))(jax.random.key(0))


def reader() -> reader_lib.Reader:
  """That reader."""
  return reader_lib.Reader(READER, params())
