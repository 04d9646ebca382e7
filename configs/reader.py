"""Puppet reader: the measuring instrument of `asymtalker evaluate`.

  asymtalker data build --dataset=puppets --out=work/puppets
  asymtalker train-reader --config=configs/reader.py:tiny --data=work/puppets
      --out=work/reader

Hardware: CPU; at most 10 CPU minutes in all, data included, validation not (the
recorded run shared its 2 cores and took 31 minutes by the clock). Expected on
the test split: mouth 0.97, yaw 0.96 per clip, docs/results/reader.json.
"""

import ml_collections


def get_config(arg: str = 'tiny') -> ml_collections.ConfigDict:
  """Values of a size: 'tiny' (the bundled reader) or 'smoke' (seconds)."""
  if arg not in ('tiny', 'smoke'):
    raise ValueError(f"reader config {arg!r}: expected 'tiny' or 'smoke'")
  smoke = arg == 'smoke'
  return ml_collections.ConfigDict({
      'model': {
          'tracks': ('mouth', 'mouth_width', 'yaw', 'pitch', 'roll', 'blink'),
          'embedding': 48,
          'widths': (8, 8, 8) if smoke else (32, 56, 80),
          'features': 96,
          'size': 128,
      },
      'train': {
          'frames_per_clip': 4 if smoke else 16,
          'steps': 4 if smoke else 700,
          'pairs': 2 if smoke else 64,
          'learning_rate': 3e-3,
          'weight_decay': 1e-3,
          'identity_weight': 0.3,
          'temperature': 0.1,
          'seed': 0,
      },
  })
