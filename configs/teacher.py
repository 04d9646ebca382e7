"""Training of the teacher by flow matching on the ground-truth path.

  asymtalker train-teacher --config=configs/teacher.py:tiny --data=DIR
      --vae=BUNDLE --workdir=DIR
"""

import ml_collections

SIZES = ('tiny',)


def get_config(size: str = 'tiny') -> ml_collections.ConfigDict:
  """Values of the named size."""
  if size not in SIZES:
    raise ValueError(f'size {size!r}: expected one of {SIZES}')
  config = ml_collections.ConfigDict()
  config.variant = 'tiny'
  config.seed = 0
  config.steps = 6000
  config.max_minutes = 120.0
  config.batch_size = 8
  config.in_memory = True

  config.flow = ml_collections.ConfigDict(
      dict(shift=5.0, weighting='bell', motion_weight=1.0)
  )
  config.conditioning = ml_collections.ConfigDict(
      dict(cold_start=0.1, drop_audio=0.1)
  )
  config.ema = ml_collections.ConfigDict(dict(decay=0.998, start_step=200))
  config.optimizer = ml_collections.ConfigDict(
      dict(
          name='muon',
          lr=2e-3,
          warmup_steps=200,
          schedule='cosine',
          total_steps=config.get_ref('steps'),
          b1=0.9,
          b2=0.99,
          weight_decay=0.01,
          clip_norm=1.0,
      )
  )
  config.log_every = 20
  config.save_every_minutes = 5.0
  config.eval_every = 1000
  return config
