"""Head motion, blinks, brows and gaze of a puppet: smooth, band-limited."""

import dataclasses

import numpy as np

FPS = 25
YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT = 20.0, 10.0, 6.0  # degrees


@dataclasses.dataclass(frozen=True)
class Motion:
  """Per video frame, each [N]: angles in degrees, offsets in head units."""

  yaw: np.ndarray
  pitch: np.ndarray
  roll: np.ndarray
  x: np.ndarray
  y: np.ndarray
  body_x: np.ndarray
  body_y: np.ndarray
  blink: np.ndarray
  brow: np.ndarray
  gaze_x: np.ndarray
  gaze_y: np.ndarray
  smile: np.ndarray


def drift(rng: np.random.Generator, frames: int, cutoff_hz: float,
          order: int = 5) -> np.ndarray:
  """[N] noise of unit scale made of `order` sines below the cutoff."""
  t = np.arange(frames) / FPS
  hz = cutoff_hz * rng.uniform(0.15, 1.0, order)
  phase = rng.uniform(0, 2 * np.pi, order)
  size = rng.uniform(0.5, 1.0, order) / (0.4 + hz / cutoff_hz)
  wave = size[:, None] * np.sin(2 * np.pi * hz[:, None] * t + phase[:, None])
  return wave.sum(0) / np.sqrt(0.5 * (size**2).sum())


def _limited(values: np.ndarray, limit: float) -> np.ndarray:
  return limit * np.tanh(values / limit)


def blinks(rng: np.random.Generator, frames: int) -> np.ndarray:
  """[N] lid closure 0..1; a blink every few seconds, 0.25 s long."""
  times = (np.arange(frames) + 0.5) / FPS
  closed = np.zeros(frames)
  at = rng.uniform(0.3, 3.0)
  while at < frames / FPS + 0.3:
    span = rng.uniform(0.09, 0.13)
    closed = np.maximum(closed, 1.15 * np.exp(
        -((times - at) / (0.62 * span)) ** 2))
    at += rng.uniform(1.6, 4.8)
  return np.minimum(closed, 1)


def _gaze(rng: np.random.Generator, frames: int) -> np.ndarray:
  """[N] gaze that rests and jumps, -1..1, mostly at the viewer."""
  gaze = np.zeros(frames)
  at = 0
  while at < frames:
    hold = int(rng.uniform(0.6, 2.4) * FPS)
    gaze[at:at + hold] = 0 if rng.uniform() < 0.55 else rng.uniform(-0.8, 0.8)
    at += hold
  kernel = np.array([0.25, 0.5, 0.25])
  return np.convolve(np.pad(gaze, 1, mode='edge'), kernel, mode='valid')


def sample_motion(rng: np.random.Generator, frames: int,
                  energy: np.ndarray) -> Motion:
  """Random motion of one clip.

  Args:
    rng: source of randomness.
    frames: N.
    energy: [N] slow loudness of the speech in 0..1; speakers nod and raise
      their brows a little with it.
  """
  lively = rng.uniform(0.5, 1.15)
  yaw = _limited(lively * 8.5 * drift(rng, frames, 0.42) + rng.normal(0, 2),
                 YAW_LIMIT)
  pitch = _limited(lively * 3.2 * drift(rng, frames, 0.5)
                   - 2.5 * lively * (energy - 0.4), PITCH_LIMIT)
  roll = _limited(lively * 2.2 * drift(rng, frames, 0.38), ROLL_LIMIT)
  sway = 0.03 * lively * drift(rng, frames, 0.3)
  breath = 0.008 * np.sin(2 * np.pi * (rng.uniform(0.22, 0.34) * np.arange(
      frames) / FPS + rng.uniform()))
  brow = 0.45 * drift(rng, frames, 0.6) + 0.6 * (energy - 0.4)
  gaze = _gaze(rng, frames)
  return Motion(
      yaw=yaw, pitch=pitch, roll=roll, x=sway + 0.0012 * yaw,
      y=0.018 * lively * drift(rng, frames, 0.4) + breath,
      body_x=0.6 * sway, body_y=breath, blink=blinks(rng, frames),
      brow=np.clip(brow, -1, 1),
      # The eyes stay with the viewer while the head turns.
      gaze_x=np.clip(gaze - yaw / 32, -1, 1),
      gaze_y=np.clip(0.5 * _gaze(rng, frames) - pitch / 25, -1, 1),
      smile=np.clip(0.4 + 0.4 * drift(rng, frames, 0.25), 0, 1))
