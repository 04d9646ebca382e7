"""A bundle of random weights that is small enough to compile in a test."""

import jax
import numpy as np

from asymtalker_jax import bundle
from asymtalker_jax.models import variants

FRAMES, SIZE = 9, 32


def write(folder) -> None:
  """Writes student and teacher (equal weights) into a folder."""
  values = variants.values_of('micro')
  values['chunk'] |= dict(frames=FRAMES, height=SIZE, width=SIZE)
  values['dit'] |= dict(width=32, depth=1, ffn=32)
  # Drawn here and not by the initialisers, whose compilation takes longer than
  # the tests.
  shapes = jax.eval_shape(variants.build(values).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes
  )
  bundle.save(
      folder, variant='micro', model=values,
      params=params | {'teacher': params['dit']},
  )
