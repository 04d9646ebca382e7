"""Training of the video VAE.

  asymtalker train-vae --config=configs/vae.py:tiny --data=DIR --workdir=DIR

`tiny` trains from nothing on puppets, and so does `micro`, the 64x64 size of
the ablation sweeps. There is no `full`: the pro and lite sizes use the public
Wan and LTX weights.
"""

import ml_collections

SIZES = ('tiny', 'micro')


def get_config(size: str = 'tiny') -> ml_collections.ConfigDict:
  """Values of the named size."""
  if size not in SIZES:
    raise ValueError(f'size {size!r}: expected one of {SIZES}')
  config = _tiny()
  if size == 'micro':
    _micro(config)
  return config


def _tiny() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.variant = 'tiny'
  config.seed = 0
  config.steps = 8000
  config.max_minutes = 90.0
  config.batch_size = 1
  config.clips = 400
  # Later latent slots are learned from long clips only: trained on 5 frames the
  # reconstruction fell from 28.7 dB in frame 5 to 13 dB in frame 30.
  config.frames = 17
  config.kl_weight = 1e-5
  config.edge_weight = 2.0
  config.motion_weight = 3.0
  config.statistics_batches = 64

  config.optimizer = ml_collections.ConfigDict(
      dict(
          name='muon',
          lr=1e-3,
          warmup_steps=30,
          schedule='cosine',
          total_steps=config.get_ref('steps'),
          b1=0.9,
          b2=0.99,
          weight_decay=0.0,
          clip_norm=1.0,
      )
  )
  config.ema = ml_collections.ConfigDict(dict(decay=0.99, start_step=100))
  config.log_every = 20
  config.save_every_minutes = 5.0
  config.eval_every = 500
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
  config.steps = 4000
  config.max_minutes = 0.0
  config.batch_size = 2
  config.clips = 400
