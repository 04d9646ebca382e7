"""Ablation of idea 2: who sees which continuity in the distillation.

  asymtalker sweep --config=configs/sweeps/akd.py
  asymtalker sweep --config=configs/sweeps/akd.py:micro_first_frame

Arms of docs/method.md, section 5, and the critic on the other source where the
arm has one, with three seeds: one VAE, one teacher, equal steps. A point is one
student and its evaluation on unseen puppets, three of them for 600 s.

No arm has the regression towards ground truth of configs/student.py: with it
symmetric_self would see the ground truth that the asymmetry is there to add.
And colours are not corrected, in none of the sweeps: it would hide their drift.

`micro_first_frame` is the harder one: teacher and students get the portrait in
the first latent frame only, as one arm of tre.py does, so that what a student
sees of its own frames matters more.
Hardware: two CPU cores.
"""

import ml_collections

SIZES = ('micro', 'tiny')
# Of the frames, in pixels.
SIDE = {'micro': 64, 'tiny': 128}
# Behind a size: the weaker reference of a sweep that is harder.
WEAKER = '_first_frame'


def get_config(size: str = 'micro') -> ml_collections.ConfigDict:
  """Values of the named size; `tiny` is for an accelerator."""
  config = ml_collections.ConfigDict()
  config.name = f'akd_{size}'
  weaker = WEAKER if size.endswith(WEAKER) else ''
  size = size.removesuffix(WEAKER)
  if size not in SIZES:
    raise ValueError(
        f'size {size!r}: expected one of {SIZES}, or one with {WEAKER} behind'
    )
  latents, teacher = f'latents{weaker}', f'teacher{weaker}'
  encode = (
      f'data encode --config=configs/encode.py:{size} --data={{puppets}}'
      f' --vae={{vae}}/bundle --out={{{latents}}} --config.windows=5'
  )
  if weaker:
    encode += ' --config.reference_encoding=first_frame'
  config.seeds = (0, 1, 2)
  config.shared = (
      ('puppets', 'data build --dataset=puppets --out={puppets}'
       f' --clips_train=900 --clips_test=32 --size={SIDE[size]}'),
      ('vae', f'train-vae --config=configs/vae.py:{size} --data={{puppets}}'
       ' --workdir={vae} --config.max_minutes=0.0'),
      (latents, encode),
      (teacher, f'train-teacher --config=configs/teacher.py:{size}'
       f' --data={{{latents}}} --workdir={{{teacher}}}'
       ' --config.max_minutes=0.0'),
  )
  config.stages = (
      ('student', f'train-student --config=configs/student.py:{size}'
       f' --data={{{latents}}} --teacher={{{teacher}}}/bundle'
       ' --workdir={student}'
       ' --config.chunks=5 --config.max_minutes=0.0 --config.seed={seed}'
       ' --config.distillation.regression_weight=0.0'),
      ('evaluation', 'evaluate --bundle={student}/bundle --data={puppets}'
       ' --out={evaluation} --clips=16 --seconds=600 --long_videos=3'
       ' --color_correction=0'
       ' --seed={seed}'),
  )
  # The first is what the others are compared with.
  config.arms = (
      ('asymmetric',),
      ('asymmetric_critic_self',
       ('student', '--config.continuity.critic=self')),
      ('symmetric_ground_truth',
       ('student', '--config.continuity.student=ground_truth')),
      ('symmetric_self',
       ('student', '--config.continuity.teacher=self'
        ' --config.continuity.critic=self')),
      ('symmetric_self_critic_ground_truth',
       ('student', '--config.continuity.teacher=self')),
  )
  config.figures = (
      ('drift of identity, 1/min', 'near 0',
       'long.figures.identity_slope_per_min'),
      ('drift of identity, first 60 s, 1/min', 'near 0',
       'long.figures.identity_slope_first_min'),
      ('identity, first window', 'higher', 'long.figures.identity_first'),
      ('identity, last window', 'higher', 'long.figures.identity_last'),
      ('identity, last / first window - 1', 'near 0',
       'long.figures.identity_change'),
      ('time within limits, s', 'higher', 'long.figures.within_limits_s'),
      ('colour shift, Lab', 'lower', 'long.figures.lab_shift_last'),
      ('lip-sync, 600 s', 'higher', 'long.figures.lip_sync'),
      ('Frechet, clips', 'lower', 'systems.student.figures.frechet'),
      ('identity, clips', 'higher',
       'systems.student.figures.identity_relative'),
      ('head motion, clips', 'near 1',
       'systems.student.figures.motion_amplitude'),
  )
  return config
