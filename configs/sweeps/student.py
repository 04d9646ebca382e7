"""Settings of the distillation, one at a time.

  asymtalker sweep --config=configs/sweeps/student.py
  asymtalker sweep --config=configs/sweeps/student.py:micro_first_frame

Chunks K, weight of the regression term (lambda), sampler steps, guidance of the
teacher and what is carried between chunks; `method` is the method with the
values of configs/student.py, without skip guidance and in half the steps.
--config.seeds="(0,1,2)" for intervals. `micro_first_frame` has the weaker
reference of akd.py, with which students drift.
Hardware: two CPU cores.
"""

import ml_collections

SIZES = ('micro', 'tiny')
# Of the frames, in pixels.
SIDE = {'micro': 64, 'tiny': 128}
STEPS = {'micro': 600, 'tiny': 800}
# Behind a size: the weaker reference of a sweep that is harder.
WEAKER = '_first_frame'


def get_config(size: str = 'micro') -> ml_collections.ConfigDict:
  """Values of the named size; `tiny` is for an accelerator."""
  config = ml_collections.ConfigDict()
  config.name = f'student_{size}'
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
  config.seeds = (0,)
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
       f' --workdir={{student}} --config.steps={STEPS[size]}'
       ' --config.chunks=5 --config.distillation.skip_guidance=False'
       ' --config.max_minutes=0.0 --config.seed={seed}'),
      ('evaluation', 'evaluate --bundle={student}/bundle --data={puppets}'
       ' --out={evaluation} --clips=16 --seconds=600 --long_videos=3'
       ' --color_correction=0'
       ' --seed={seed}'),
  )
  # The first is what the others are compared with.
  config.arms = (
      ('method',),
      ('chunks_1', ('student', '--config.chunks=1')),
      ('chunks_2', ('student', '--config.chunks=2')),
      ('chunks_3', ('student', '--config.chunks=3')),
      ('chunks_4', ('student', '--config.chunks=4')),
      ('regression_0.0',
       ('student', '--config.distillation.regression_weight=0.0')),
      ('regression_1.0',
       ('student', '--config.distillation.regression_weight=1.0')),
      ('regression_4.0',
       ('student', '--config.distillation.regression_weight=4.0')),
      ('steps_1', ('student', '--config.sampler.timesteps=1000.0,')),
      ('steps_2', ('student', '--config.sampler.timesteps=1000.0,500.0')),
      ('guidance_0.0', ('student', '--config.distillation.guidance=0.0')),
      ('guidance_2.0', ('student', '--config.distillation.guidance=2.0')),
      ('skip_guidance',
       ('student', '--config.distillation.skip_guidance=True')),
      ('carry_latent', ('student', '--config.continuity_carry=latent')),
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
