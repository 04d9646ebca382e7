"""Ablation of idea 1: how the identity reference is encoded.

  asymtalker sweep --config=configs/sweeps/tre.py

Encodings of docs/method.md, section 2, with three seeds: one VAE, latents of
each encoding, equal steps. A point is one teacher and its evaluation on unseen
puppets; generation encodes the reference as its teacher was trained.
Hardware: two CPU cores.
"""

import ml_collections

SIZES = ('micro', 'tiny')
# Of the frames, in pixels.
SIDE = {'micro': 64, 'tiny': 128}
# Of a teacher; at micro an arm takes a quarter of an hour on slow cores.
STEPS = {'micro': 1600, 'tiny': 9000}


def get_config(size: str = 'micro') -> ml_collections.ConfigDict:
  """Values of the named size; `tiny` is for an accelerator."""
  if size not in SIZES:
    raise ValueError(f'size {size!r}: expected one of {SIZES}')
  config = ml_collections.ConfigDict()
  config.name = f'tre_{size}'
  config.seeds = (0, 1, 2)
  config.shared = (
      ('puppets', 'data build --dataset=puppets --out={puppets}'
       f' --clips_train=900 --clips_test=32 --size={SIDE[size]}'),
      ('vae', f'train-vae --config=configs/vae.py:{size} --data={{puppets}}'
       ' --workdir={vae} --config.max_minutes=0.0'),
      ('latents', f'data encode --config=configs/encode.py:{size}'
       ' --data={puppets} --vae={vae}/bundle --out={latents}'
       ' --config.windows=5'),
      ('latents_static',
       f'data encode --config=configs/encode.py:{size} --data={{puppets}}'
       ' --vae={vae}/bundle --out={latents_static} --config.windows=5'
       ' --config.reference_encoding=static'),
      ('latents_first_frame',
       f'data encode --config=configs/encode.py:{size} --data={{puppets}}'
       ' --vae={vae}/bundle --out={latents_first_frame} --config.windows=5'
       ' --config.reference_encoding=first_frame'),
  )
  config.stages = (
      ('teacher', f'train-teacher --config=configs/teacher.py:{size}'
       f' --workdir={{teacher}} --config.steps={STEPS[size]}'
       ' --config.max_minutes=0.0'
       ' --config.seed={seed}'),
      ('evaluation', 'evaluate --bundle={teacher}/bundle --roles=teacher'
       ' --data={puppets} --out={evaluation} --clips=32 --seconds=120'
       ' --long_videos=3 --seed={seed}'),
  )
  # The first is what the others are compared with.
  config.arms = (
      ('temporal', ('teacher', '--data={latents}')),
      ('static', ('teacher', '--data={latents_static}')),
      ('first_frame', ('teacher', '--data={latents_first_frame}')),
  )
  config.figures = (
      ('Frechet, clips', 'lower', 'systems.teacher.figures.frechet'),
      ('lip-sync, clips', 'higher', 'systems.teacher.figures.lip_sync'),
      ('identity, clips', 'higher',
       'systems.teacher.figures.identity_relative'),
      ('PSNR where still, dB', 'higher', 'systems.teacher.figures.psnr_still'),
      ('head motion, clips', 'near 1',
       'systems.teacher.figures.motion_amplitude'),
      ('drift of identity, 1/min', 'near 0',
       'long.figures.identity_slope_per_min'),
      ('identity, first window', 'higher', 'long.figures.identity_first'),
      ('identity, last window', 'higher', 'long.figures.identity_last'),
      ('identity, last / first window - 1', 'near 0',
       'long.figures.identity_change'),
  )
  return config
