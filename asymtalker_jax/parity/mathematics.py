"""The outputs of golden files without a network: schedules, DMD, distances."""

from collections.abc import Sequence
import re
from typing import Any

import numpy as np

from asymtalker_jax.asymmetric_distillation import dmd as distillation
from asymtalker_jax.evals import frechet as distances
from asymtalker_jax.flow import losses
from asymtalker_jax.flow import path
from asymtalker_jax.parity import golden as golden_lib

# FlashHead's sampler steps before the shift; others are evenly spread.
FLASHHEAD_STEPS = {2: (1000, 500), 4: (1000, 750, 500, 250)}
FLASHHEAD_SHIFT = 5.0
_SELF_FORCING_STEPS = FLASHHEAD_STEPS[4]
# Of the score wrappers in Self-Forcing, whatever shift the student has.
_SCORE_SHIFT = 8.0


def flashhead_sigmas(steps: int, shift: float = FLASHHEAD_SHIFT) -> np.ndarray:
  """[steps + 1] noise levels of FlashHead's sampler."""
  table = FLASHHEAD_STEPS.get(steps)
  if table is None:
    table = np.linspace(path.TIMESTEPS, 1.0, steps)
  return path.shifted_sigmas(table, shift)


def _grid(
    shift: float, count: int = 1000, low: float = 0.0, extra: bool = True
) -> np.ndarray:
  """[count] descending noise levels that Self-Forcing looks its sigmas up in.

  Args:
    shift: k.
    count: points.
    low: end of the grid before the shift.
    extra: whether the end is left out.
  """
  even = np.linspace(1.0, low, count + extra)[:count]
  return path.shift(even, shift).astype(np.float32)


def _nearest(timestep: np.ndarray, grid: np.ndarray) -> np.ndarray:
  """Index of the grid point nearest to each timestep, first on ties."""
  points = np.float32(path.TIMESTEPS) * grid
  return np.abs(points - np.asarray(timestep)[..., None]).argmin(-1)


def _shifted(golden: golden_lib.Golden, shift: float) -> dict[str, Any]:
  """Self-Forcing's `FlowMatchScheduler` at one shift."""
  x0, noise, xt, flow, t = (
      golden[f'in.{name}'] for name in ('x0', 'noise', 'xt', 'flow', 't')
  )
  config = golden.config
  grid = _grid(
      shift, config['num_train_timesteps'], config['sigma_min'],
      config['extra_one_step'],
  )  # pyformat: disable
  index = _nearest(t, grid)
  sigma, following = grid[index], np.append(grid, 0.0)[index + 1]
  weights = np.asarray(losses.loss_weight(grid, 'bell', shift))
  floor = grid[_nearest(np.maximum(t, 20.0), grid)]
  # The reference takes a whole batch to 0 if one row is at the last point.
  kept = index < len(grid) - 1
  step = path.predict_x0(xt, flow, (sigma - following).astype(np.float32))
  return dict(
      sigmas=grid,
      timesteps=path.TIMESTEPS * grid,
      training_weights_table=weights,
      add_noise=path.add_noise(x0, noise, sigma),
      training_weight=weights[index],
      training_target=path.velocity_target(x0, noise),
      step=np.asarray(step)[kept],
      step_to_final=path.predict_x0(xt, flow, sigma),
      flow_to_x0=path.predict_x0(xt, flow, sigma),
      x0_to_flow=(xt - x0) / path.expand(floor, x0.ndim),
      warped_denoising_steps=path.TIMESTEPS
      * path.shifted_sigmas(_SELF_FORCING_STEPS, shift)[:-1],
  )


def scheduler(golden: golden_lib.Golden) -> dict[str, Any]:
  """Noise levels and what is computed with them."""
  found = {}
  for output in golden.outputs:
    steps = re.fullmatch(r'flashhead_timesteps_(\d+)steps', output)
    if steps:
      found[output] = path.TIMESTEPS * flashhead_sigmas(int(steps[1]))
  shifts = {o.rpartition('.')[0] for o in golden.outputs}
  for prefix in shifts:
    shift = re.fullmatch(r'shift(\d+(\.\d+)?)', prefix)
    if shift:
      values = _shifted(golden, float(shift[1]))
      found |= {f'{prefix}.{name}': value for name, value in values.items()}
  return found


def _frames_last(x: np.ndarray) -> np.ndarray:
  """[B, F, C, H, W] of Self-Forcing -> [B, T, H, W, C]."""
  return np.moveaxis(np.asarray(x), 2, -1)


def _stub_x0(
    factors: Sequence[float], x: np.ndarray, e: np.ndarray, t: np.ndarray
) -> np.ndarray:
  """Clean estimate of the linear score that stands in for a network."""
  a, b, c, d = (np.float32(f) for f in factors)
  flow = a * x + b * np.roll(x, 1, -1) + c * e
  flow = flow + d * path.expand(t / path.TIMESTEPS, x.ndim)
  grid = _grid(_SCORE_SHIFT)
  return np.asarray(path.predict_x0(x, flow, grid[_nearest(t, grid)]))


def dmd(golden: golden_lib.Golden) -> dict[str, Any]:
  """Gradient and losses of distribution matching with stub scores."""
  image, shift = golden['in.image'], golden.config['shift']
  frames, stubs = image.shape[1], golden.meta['stub_scores']

  def noised(raw, noise):
    level = path.shift(raw / path.TIMESTEPS, shift) if shift > 1 else raw / 1e3
    level = np.clip(level, distillation.MIN_SIGMA, distillation.MAX_SIGMA)
    t = np.repeat(path.TIMESTEPS * level, frames, 1).astype(np.float32)
    grid = _grid(shift)
    sigma = grid[_nearest(t, grid)]
    return t, sigma, np.asarray(path.add_noise(image, noise, sigma))

  t, _, noisy = noised(golden['noise.timestep_raw'], golden['noise.noise'])
  estimates = {
      f'x0_{role}_{view}': _stub_x0(stubs[role], noisy, golden[f'in.{view}'], t)
      for role in ('real', 'fake')
      for view in ('cond', 'uncond')
  }

  def guided(role, scale):
    cond, uncond = (estimates[f'x0_{role}_{v}'] for v in ('cond', 'uncond'))
    return _frames_last(cond + np.float32(scale) * (cond - uncond))

  x0 = _frames_last(image)
  grad, normaliser = distillation.gradient(
      x0,
      guided('real', golden.config['guidance']),
      guided('fake', golden.config['fake_guidance']),
      np.zeros(x0.shape[:2], np.float32),
  )
  grad = np.moveaxis(np.asarray(grad), -1, 2)
  scale = np.asarray(normaliser).reshape(-1, 1, 1, 1, 1)
  later = np.mean(np.square(grad[:, 1:], dtype=np.float64))
  whole = np.mean(np.square(grad, dtype=np.float64))
  critic_t, sigma, critic_noisy = noised(
      golden['noise.critic_timestep_raw'], golden['noise.critic_noise']
  )
  fake = _stub_x0(stubs['fake'], critic_noisy, golden['in.cond'], critic_t)
  v = (critic_noisy - fake) / path.expand(sigma, fake.ndim)
  target = path.velocity_target(image, golden['noise.critic_noise'])
  return estimates | dict(
      timestep=t,
      noisy=noisy,
      grad=grad,
      grad_unnormalized=grad * scale,
      normalizer=scale,
      gradient_norm_log=[np.abs(grad).mean()],
      loss=[0.5 * whole],
      loss_masked=[0.5 * later],
      loss_grad_wrt_image=grad / grad.size,
      critic_timestep=critic_t,
      critic_loss=[np.mean(np.square(np.asarray(v - target)))],
  )


def _moments(features: np.ndarray) -> distances.Moments:
  moments = distances.Moments(features.shape[1])
  moments.update(features)
  return moments


def _biased_mmd(first: np.ndarray, second: np.ndarray) -> float:
  """Squared distance with the kernel of KID, diagonals included."""
  n, m = len(first), len(second)
  diagonal = lambda x: float(((np.square(x).mean(1) + 1.0) ** 3).sum())
  kernel = lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3
  # The unbiased one leaves the diagonals out and divides by n (n - 1).
  unbiased = distances.kid(first, second)
  within = [(kernel(x, x).sum(), diagonal(x)) for x in (first, second)]
  for (total, own), k in zip(within, (n, m)):
    unbiased += total / k**2 - (total - own) / (k * (k - 1))
  return unbiased


def frechet(golden: golden_lib.Golden) -> dict[str, Any]:
  """Fréchet and kernel distances of recorded features."""
  first, second = (np.float64(golden[f'in.feat{n}']) for n in (1, 2))
  one, two = _moments(first), _moments(second)
  rows = golden.config['rank1']
  found = dict(
      mu1=one.mean,
      cov1=one.covariance,
      mean_term=[np.square(one.mean - two.mean).sum()],
      frechet=[distances.distance(one, two)],
      frechet_self=[distances.distance(one, one)],
      frechet_rank_deficient=[
          distances.distance(_moments(first[:rows]), _moments(second[:rows]))
      ],
      kid_unbiased=[distances.kid(first, second)],
      mmd2_biased=[_biased_mmd(first, second)],
  )
  for output in golden.outputs:
    count = re.fullmatch(r'kid_unbiased_first(\d+)', output)
    if count:
      n = int(count[1])
      found[output] = [distances.kid(first[:n], second[:n])]
  return found
