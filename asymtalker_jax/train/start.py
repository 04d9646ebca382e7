"""Parameters that a new run takes over from a bundle or from another run.

The order in which a run looks for its state (`loop`):
  1. its own newest checkpoint: it goes on, whatever else is named;
  2. `init_from`: these parameters; optimiser, clock and data start anew;
  3. a fresh state.
"""

import os
from typing import Any

import jax
import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax.train import checkpoint

CHECKPOINTS = 'checkpoints'  # Folder in that of a run.
# A converted bundle has one network for both roles.
_PARTS = {'teacher': ('teacher', 'dit'), 'dit': ('dit',), 'vae': ('vae',)}
# Measured at the end of a training, which happens in latents as they come.
_STATISTICS = ('latent_mean', 'latent_std')


def check_variant(
    bundle: bundle_lib.Bundle, where: str, variant: str
) -> None:
  """Raises ValueError unless what a run builds on is of its config's size.

  Args:
    bundle: of the teacher, or of the VAE that encoded the data.
    where: it comes from.
    variant: of the config.
  """
  found = bundle.config['variant']
  if found != variant:
    raise ValueError(
        f'{where}: of size {found!r}; the config is for {variant!r}, expected'
        f' that of {found!r}'
    )


def take_over(state: Any, where: str, part: str) -> Any:
  """Returns a fresh state with the parameters of a bundle or of another run.

  Of a run it is the average of the parameters. A student's run that starts
  from a teacher's takes it for student and critic; from a student's, both of
  that run; from a bundle, the student only.

  Args:
    state: `TrainState` or `StudentState`.
    where: bundle (name or folder), folder of another run (its newest
      checkpoint), or RUN/checkpoints/STEP.
    part: of bundles that the run trains: 'vae', 'teacher' or 'dit'.

  Raises:
    ValueError, FileNotFoundError: neither of the two, or other networks.
  """
  trained = state.ema
  folder, step = os.path.join(where, CHECKPOINTS), None
  head, name = os.path.split(where.rstrip('/'))
  if os.path.basename(head) == CHECKPOINTS and name.isdigit():
    folder, step = head, int(name)
  if os.path.isdir(folder):
    return _from_run(state, trained, folder, step)
  try:
    found = bundle_lib.parts_of(where)
  except FileNotFoundError as error:
    raise FileNotFoundError(
        f'init_from {where}: expected a bundle, the folder of a run with'
        f' {CHECKPOINTS}/ in it, or one of those checkpoints'
    ) from error
  parts = [p for p in _PARTS[part] if p in found]
  if not parts:
    raise ValueError(
        f'init_from {where}: the bundle has {found}, expected one of'
        f' {list(_PARTS[part])}'
    )
  params = bundle_lib.open_bundle(where, parts[:1]).params[parts[0]]
  _check(where, params, trained)
  kept = {k: trained[k] for k in _STATISTICS if k in trained}
  return state.with_parameters(jax.tree.map(_put, params | kept, trained))


def _from_run(
    state: Any, trained: Any, folder: str, step: int | None
) -> Any:
  """The state with what another run averaged."""
  fields = checkpoint.fields(folder)
  part = {'ema': trained}
  if hasattr(state, 'critic'):
    part['critic' if 'critic' in fields else 'ema'] = trained
  try:
    found = checkpoint.restore_part(folder, part, step)
  except (ValueError, KeyError) as error:
    reason = ' '.join(str(error).split())[:300]
    raise ValueError(
        f'init_from {folder}: expected the parameters of the same network'
        f' ({reason})'
    ) from error
  params = found['ema']
  if not hasattr(state, 'critic'):
    return state.with_parameters(params)
  return state.with_parameters(params, found.get('critic', params))


def _put(x: Any, like: jax.Array) -> jax.Array:
  """The leaf laid out like another one; each process reads its shards."""
  if isinstance(x, jax.Array):
    return x
  return jax.make_array_from_callback(
      like.shape, like.sharding,
      lambda index: np.asarray(x)[index].astype(like.dtype),
  )


def _check(where: str, params: Any, trained: Any) -> None:
  """Raises unless the shapes are those of the network in training."""
  shape = lambda tree: {k: tuple(x.shape) for k, x in bundle_lib.flatten(tree)}
  found, expected = shape(params), shape(trained)
  other = [
      f'{k} {found.get(k, "absent")} (expected {expected.get(k, "none")})'
      for k in sorted(found.keys() | expected.keys())
      if found.get(k) != expected.get(k)
  ]
  if other:
    raise ValueError(
        f'init_from {where}: {len(other)} tensors do not fit the network:'
        f' {", ".join(other[:5])}'
    )
