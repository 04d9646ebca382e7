"""Precomputation of latents, reference latents and audio features.

  asymtalker data encode --config=configs/encode.py:tiny --data=DIR
      --vae=BUNDLE --out=DIR
"""

import ml_collections

SIZES = ('tiny', 'micro', 'pro', 'lite')


def get_config(size: str = 'tiny') -> ml_collections.ConfigDict:
  """Values of the named size."""
  if size not in SIZES:
    raise ValueError(f'size {size!r}: expected one of {SIZES}')
  config = ml_collections.ConfigDict()
  # Clips per split from the first on; 0 takes all.
  config.clips = ml_collections.ConfigDict(dict(train=1600, test=32))
  # The clips of `train` once more, left and right exchanged.
  config.mirror = True
  config.windows = 4
  config.references = 2
  config.reference_encoding = 'temporal'
  config.examples_per_shard = 64
  if size == 'micro':
    config.clips.update(train=400, test=16)
    config.mirror = False
    config.windows = 5
    config.references = 2
  elif size != 'tiny':
    # What the student's rollout needs; clips are longer than these windows.
    config.clips.update(train=0, test=0)
    config.mirror = False
    config.windows = 5
    config.references = 4
  return config
