"""Asymmetric distillation of the teacher into a few-step student.

  asymtalker train-student --config=configs/student.py:tiny --data=DIR
      --teacher=BUNDLE --workdir=DIR

Sizes: see `configs/teacher.py`. The arms of the paper's ablation are settings of
`continuity`:
  asymmetric (the method)   self, ground_truth, ground_truth
  symmetric_ground_truth    ground_truth, ground_truth, ground_truth
  symmetric_self            self, self, self
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
  config.steps = 1600
  config.max_minutes = 60.0
  config.batch_size = 4
  config.microbatches = 1
  config.in_memory = True
  config.mesh = ml_collections.ConfigDict(dict(data=-1, fsdp=1, seq=1))
  config.remat = 'dots'
  config.frozen_dtype = 'float32'
  config.chunks = 3

  config.continuity = ml_collections.ConfigDict(
      dict(student='self', teacher='ground_truth', critic='ground_truth')
  )
  config.continuity_carry = 'reencode'
  # color_correction is of generation only: Lab statistics of the portrait.
  config.sampler = ml_collections.ConfigDict(
      dict(timesteps=(1000.0, 750.0, 500.0, 250.0), color_correction=1.0)
  )
  config.flow = ml_collections.ConfigDict(dict(shift=5.0))
  # guidance is w of c + w (c - u): 0 is none, and the --guidance of `evaluate`
  # is 1 + w. With skip_guidance u also lacks the self-attention of the middle
  # block. regression_weight is of the plain sum; the log has both terms.
  config.distillation = ml_collections.ConfigDict(
      dict(
          critic_updates=2,
          guidance=1.0,
          skip_guidance=True,
          regression_weight=0.1,
      )
  )
  config.ema = ml_collections.ConfigDict(dict(decay=0.98, start_step=50))
  shared = dict(
      name='adamw',
      warmup_steps=20,
      schedule='constant',
      total_steps=0,
      b1=0.0,
      b2=0.999,
      weight_decay=0.01,
      clip_norm=10.0,
  )
  config.optimizer = ml_collections.ConfigDict(dict(shared, lr=1e-4))
  config.critic_optimizer = ml_collections.ConfigDict(dict(shared, lr=1e-4))
  config.log_every = 10
  config.save_every_minutes = 5.0
  config.eval_every = 200
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
  config.distillation.skip_guidance = False
  config.steps = 1200
  config.max_minutes = 0.0
  config.batch_size = 8
  config.chunks = 5


def _full(config: ml_collections.ConfigDict, size: str) -> None:
  """The paper's schedule on a slice of 64 chips or more."""
  config.variant = size
  # 5 critic updates after each of the student: 1,600 of the critic.
  config.steps = 1920
  config.distillation.critic_updates = 5
  config.max_minutes = 0.0
  config.batch_size = 64
  config.chunks = 5
  config.in_memory = False
  # Student, critic, average and AdamW are 41 GB, a 32nd of that a chip. With
  # 9,216 tokens four chips share an example.
  seq = 4 if size == 'pro' else 1
  config.mesh.update(data=-1, fsdp=32, seq=seq)
  config.remat = 'full'
  config.frozen_dtype = 'bfloat16'
  config.sampler.color_correction = 0.0
  config.distillation.update(
      guidance=2.0, skip_guidance=False, regression_weight=0.25
  )
  config.ema.update(decay=0.99, start_step=200)
  config.optimizer.lr = 2e-6
  config.critic_optimizer.lr = 4e-7
  config.save_every_minutes = 15.0
