"""Log-mel audio encoder: the interface of wav2vec2 without weights.

Features come as [frames, layers, channels] at 25 Hz like wav2vec2's stacked
hidden states; here the "layers" are the 10 ms steps inside one video frame.
"""

import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np

from asymtalker_jax import types


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMelConfig:
  """Sizes of the encoder.

  Attributes:
    mels: A, mel bands.
    steps: L, spectra per video frame.
    fft: window and transform length in samples.
    floor: added to the mel power before the logarithm.
  """

  mels: int = 40
  steps: int = 4
  fft: int = 512
  floor: float = 1e-4
  sample_rate_hz: int = 16000
  fps: int = 25

  @property
  def layers(self) -> int:
    """L."""
    return self.steps

  @property
  def channels(self) -> int:
    """A."""
    return self.mels


def normalise_loudness(
    waveform: np.ndarray, frame: int = 640, quietest: float = 1e-3
) -> np.ndarray:
  """Removes the mean and scales so that loud frames have root mean square 1.

  One gain per file, from the 95th percentile of frame levels, so that pauses do
  not change it; levels below `quietest` (-60 dB) are not amplified further.

  Args:
    waveform: [S] in [-1, 1].
    frame: samples per level measurement.
    quietest: lowest level that is normalised to 1.

  Returns:
    [S] float32.
  """
  waveform = np.asarray(waveform, np.float32)
  if not waveform.size:
    return waveform
  waveform = waveform - waveform.mean()
  padded = np.pad(waveform, (0, -waveform.size % frame)).reshape(-1, frame)
  level = np.percentile(np.sqrt(np.square(padded).mean(-1)), 95)
  return (waveform / max(float(level), quietest)).astype(np.float32)


def encode(
    config: LogMelConfig, waveform: jax.Array, frames: int
) -> jax.Array:
  """Log-mel features of the first `frames` video frames.

  Every spectrum is centred in its 10 ms step; samples past the end are zero.

  Args:
    config: sizes.
    waveform: [S] float32 at 16 kHz after `normalise_loudness`.
    frames: N video frames at 25 Hz.

  Returns:
    [N, L, A] float32, about zero mean and unit variance on speech.
  """
  hop = config.sample_rate_hz // config.fps // config.steps
  count = frames * config.steps
  margin = (config.fft - hop) // 2
  needed = (count - 1) * hop + config.fft
  padded = jnp.pad(jnp.asarray(waveform), (margin, max(0, needed)))[:needed]
  index = np.arange(count)[:, None] * hop + np.arange(config.fft)
  window = np.hanning(config.fft + 1)[:-1].astype(np.float32)
  spectrum = jnp.abs(jnp.fft.rfft(padded[index] * window)) ** 2 / config.fft
  bank = librosa.filters.mel(
      sr=config.sample_rate_hz, n_fft=config.fft, n_mels=config.mels, fmin=60.0
  )
  mel = jnp.log10(spectrum @ bank.T + config.floor)
  mean, std = _typical(config.floor)
  return ((mel - mean) / std).reshape(frames, config.steps, config.mels)


def _typical(floor: float) -> tuple[float, float]:
  """Midpoint and half range of log power between the floor and loud speech."""
  low, high = np.log10(floor), 0.5
  return (low + high) / 2, (high - low) / 3


@dataclasses.dataclass(frozen=True)
class LogMelEncoder:
  """The audio encoder of a variant; same interface as `Wav2Vec2Encoder`."""

  config: LogMelConfig

  def init(self, key: jax.Array) -> types.Params:
    """No parameters."""
    del key
    return {}

  def prepare_waveform(self, waveform: np.ndarray) -> np.ndarray:
    """See `normalise_loudness`."""
    return normalise_loudness(waveform)

  def encode(
      self, params: types.Params, waveform: jax.Array, frames: int
  ) -> jax.Array:
    """See `encode`."""
    del params
    return encode(self.config, waveform, frames)
