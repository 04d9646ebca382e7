"""From phonemes to the mouth: opening, width and tongue per video frame.

Every phoneme has a target and a dominance; targets are blended over time with
dominance as weight (coarticulation), then lip closures are imposed.
"""

import dataclasses

import numpy as np

FPS = 25
STEP_HZ = 200  # resolution of the intermediate curves
BLEND_S = 0.030  # standard deviation of coarticulation

# symbol: (opening, width, dominance, tongue)
_VOWELS = {
    'a': (0.95, 0.58), 'ɑ': (1.0, 0.52), 'æ': (0.85, 0.78), 'ɐ': (0.7, 0.55),
    'ʌ': (0.75, 0.55), 'ɛ': (0.62, 0.75), 'e': (0.5, 0.82), 'ə': (0.42, 0.5),
    'ɜ': (0.45, 0.38), 'ɚ': (0.4, 0.36), 'ɝ': (0.45, 0.36), 'i': (0.3, 1.0),
    'ɪ': (0.36, 0.82), 'ᵻ': (0.36, 0.75), 'ɨ': (0.32, 0.75), 'o': (0.55, 0.10),
    'ɔ': (0.78, 0.24), 'ɒ': (0.85, 0.34), 'u': (0.28, 0.0), 'ʊ': (0.32, 0.14),
    'y': (0.26, 0.04), 'ʏ': (0.3, 0.1), 'ø': (0.42, 0.10), 'œ': (0.58, 0.2),
}
_CONSONANTS = {
    'p': (0.0, 0.48, 1.5, 0.1), 'b': (0.0, 0.48, 1.5, 0.1),
    'm': (0.0, 0.48, 1.5, 0.1), 'f': (0.13, 0.6, 1.4, 0.1),
    'v': (0.13, 0.58, 1.3, 0.1), 'w': (0.15, 0.02, 1.2, 0.1),
    'ɹ': (0.25, 0.26, 0.8, 0.5), 'r': (0.3, 0.45, 0.5, 0.8),
    'ɾ': (0.3, 0.5, 0.4, 0.9), 'ʁ': (0.35, 0.5, 0.4, 0.3),
    'l': (0.32, 0.55, 0.6, 1.0), 'ʎ': (0.28, 0.7, 0.6, 0.8),
    't': (0.2, 0.62, 0.7, 0.9), 'd': (0.22, 0.6, 0.6, 0.9),
    'n': (0.24, 0.58, 0.6, 0.9), 'ɲ': (0.22, 0.7, 0.6, 0.7),
    's': (0.16, 0.75, 1.1, 0.7), 'z': (0.16, 0.72, 1.0, 0.7),
    'ʃ': (0.2, 0.16, 1.1, 0.6), 'ʒ': (0.2, 0.16, 1.0, 0.6),
    'θ': (0.2, 0.58, 0.9, 1.0), 'ð': (0.2, 0.58, 0.7, 1.0),
    'k': (0.3, 0.52, 0.45, 0.3), 'ɡ': (0.3, 0.52, 0.45, 0.3),
    'g': (0.3, 0.52, 0.45, 0.3), 'ŋ': (0.26, 0.52, 0.5, 0.3),
    'x': (0.32, 0.5, 0.45, 0.3), 'ç': (0.22, 0.75, 0.7, 0.5),
    'j': (0.24, 0.85, 0.8, 0.4), 'h': (0.45, 0.5, 0.12, 0.2),
    'β': (0.1, 0.5, 1.0, 0.1), 'ɣ': (0.32, 0.5, 0.4, 0.3),
    'ɕ': (0.18, 0.7, 0.9, 0.6),
}
TARGETS = {**{s: (o, w, 0.9, 0.15) for s, (o, w) in _VOWELS.items()},
           **_CONSONANTS}
_REST = (0.0, 0.5, 0.8, 0.3)
CLOSURES = frozenset('pbm')


@dataclasses.dataclass(frozen=True)
class MouthTracks:
  """Per video frame, each [N] float32 in 0..1."""

  mouth: np.ndarray
  mouth_width: np.ndarray
  tongue: np.ndarray


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
  radius = int(4 * sigma + 1)
  kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
  padded = np.pad(values, radius, mode='edge')
  return np.convolve(padded, kernel / kernel.sum(), mode='valid')


def closures(phonemes, seconds: float) -> list[tuple[float, float]]:
  """(start, end) in seconds of every interval with the lips closed.

  Plosive events mark the release, so their closure reaches back before them.
  """
  intervals = []
  starts = [t for t, _ in phonemes] + [seconds]
  for i, (start, symbol) in enumerate(phonemes):
    name = symbol.strip('ˈˌ')[:1]
    if name not in CLOSURES:
      continue
    end = starts[i + 1]
    if name == 'm':
      intervals.append((start + 0.008, max(end - 0.012, start + 0.03)))
    else:
      intervals.append((start - 0.035, min(start + 0.015, end)))
  return intervals


def mouth_tracks(phonemes, waveform: np.ndarray, frames: int,
                 rate_hz: int = 16000) -> MouthTracks:
  """Mouth movements that fit the speech.

  Args:
    phonemes: (start in seconds, IPA symbol) in order; '' is a pause.
    waveform: [S] float32 speech; louder speech opens the mouth wider.
    frames: N video frames at 25 Hz; frame i shows time (i + 0.5) / 25.
    rate_hz: of the waveform.
  """
  seconds = frames / FPS
  steps = round(seconds * STEP_HZ)
  targets = np.tile(np.array(_REST), (steps, 1))
  starts = [t for t, _ in phonemes] + [seconds]
  for i, (start, name) in enumerate(phonemes):
    known = [c for c in name if c in TARGETS]
    edges = np.linspace(start, starts[i + 1], max(len(known), 1) + 1)
    for symbol, a, b in zip(known or [''], edges, edges[1:]):
      target = np.array(TARGETS.get(symbol, _REST))
      if 'ˈ' not in name and symbol in _VOWELS:
        target[0] *= 0.85
      targets[round(a * STEP_HZ):round(b * STEP_HZ)] = target
  sigma = BLEND_S * STEP_HZ
  weight = _gaussian(targets[:, 2], sigma)
  opening, width, tongue = (
      _gaussian(targets[:, i] * targets[:, 2], sigma) / weight
      for i in (0, 1, 3))
  opening = opening * _loudness_gain(waveform, steps, rate_hz)
  opening = 1.6 * opening / (1 + 0.6 * opening)  # blending had flattened it
  shut = np.zeros(steps)
  spans = closures(phonemes, seconds)
  for start, end in spans:
    shut[max(0, round(start * STEP_HZ)):max(0, round(end * STEP_HZ))] = 1
  opening = opening * (1 - np.minimum(1, 1.25 * _gaussian(shut, 2.2)))
  times = (np.arange(frames) + 0.5) / FPS
  at = np.minimum((times * STEP_HZ).astype(int), steps - 1)
  opening = _gaussian(opening, 1.2)[at]
  for start, end in spans:  # at 25 Hz a short closure can fall between frames
    middle = int(np.clip((start + end) / 2 * FPS, 0, frames - 1))
    opening[middle] = 0.0
  opening[opening < 0.03] = 0.0
  return MouthTracks(*(np.clip(track, 0, 1).astype(np.float32) for track in
                       (opening, width[at], tongue[at])))


def _loudness_gain(waveform: np.ndarray, steps: int,
                   rate_hz: int) -> np.ndarray:
  """[steps] factor 0.6..1.15 from the short-time level of the speech."""
  hop = rate_hz // STEP_HZ
  power = np.zeros(steps * hop, np.float64)
  power[:min(len(waveform), len(power))] = waveform[:len(power)] ** 2
  level = np.sqrt(_gaussian(power.reshape(steps, hop).mean(1), 5.0))
  loud = np.quantile(level, 0.9) + 1e-6
  return 0.6 + 0.55 * np.clip(level / loud, 0, 1) ** 0.7
