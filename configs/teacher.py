"""Training of the teacher by flow matching on the ground-truth path.

  asymtalker train-teacher --config=configs/teacher.py:tiny --data=DIR
      --workdir=DIR

The folder of `asymtalker data encode` brings its VAE.

Sizes: `tiny` trains on two CPU cores, and so does `micro`, the 64x64 size of
the ablation sweeps; `pro` (512x512, 1.5e9 parameters, 9,216 tokens) and `lite`
(the same network on 1,280 tokens) on TPU or GPU clusters. What they need and
how fast they can be at best:
  asymtalker compile-check --config=configs/teacher.py:pro --topology=v5e:16x16
"""

import ml_collections

SIZES = ('tiny', 'micro', 'pro', 'lite')


def get_config(size: str = 'tiny') -> ml_collections.ConfigDict:
  """Values of the named size."""
  if size not in SIZES:
    raise ValueError(f'size {size!r}: expected one of {SIZES}')
  config = _tiny()
  if size == 'micro':
    _micro(config)
  elif size != 'tiny':
    _full(config, size)
  return config


def _tiny() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.variant = 'tiny'
  config.seed = 0
  config.steps = 9000
  config.max_minutes = 150.0
  config.batch_size = 8
  config.microbatches = 1
  config.in_memory = True
  config.mesh = ml_collections.ConfigDict(dict(data=-1, fsdp=1, seq=1))
  config.remat = 'dots'
  # True: continuity slots get timestep 0, not that of the chunk; students too.
  config.per_frame_timestep = False

  # Where a head turns is decided at noise levels above 0.95: 21 % of the draws
  # with a shift of 5, 14 % with 3.
  config.flow = ml_collections.ConfigDict(
      dict(shift=5.0, weighting='uniform', motion_weight=2.0)
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
  # After `save_every_minutes` and, where a metric of the evaluation is named,
  # after each evaluation: the newest `keep`, and the best by that metric, which
  # --init_from=RUN/checkpoints/STEP takes over. The bundle is of the last step.
  config.checkpoint = ml_collections.ConfigDict(
      dict(keep=2, best_metric='', best_mode='min')
  )
  # A bundle or the folder of another run, whose parameters a new run takes.
  config.init_from = ''
  # What waits in the memory of the host between steps: 'ema', 'optimizer'.
  config.host_memory = ()
  # First and last step of a trace in WORKDIR/profile.
  config.profile_steps = ()
  return config


def _micro(config: ml_collections.ConfigDict) -> None:
  """Budgets are steps, not minutes, so that arms of a sweep are equal."""
  config.variant = 'micro'
  config.flow.motion_weight = 1.0
  config.steps = 3000
  config.max_minutes = 0.0
  config.batch_size = 16


def _full(config: ml_collections.ConfigDict, size: str) -> None:
  """The paper's schedule on a slice of 64 chips or more."""
  config.variant = size
  config.steps = 10_000
  config.max_minutes = 0.0
  config.batch_size = 256
  config.in_memory = False
  # Parameters, gradient, average and AdamW are 29 GB, a 32nd of that a chip.
  config.mesh.update(data=-1, fsdp=32, seq=1)
  config.remat = 'full'
  config.flow.update(weighting='bell', motion_weight=0.0)
  config.ema.update(decay=0.999, start_step=1000)
  config.optimizer.update(
      name='adamw', lr=2e-4, warmup_steps=500, b2=0.999
  )
  config.save_every_minutes = 15.0
