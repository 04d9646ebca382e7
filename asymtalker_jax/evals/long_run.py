"""One long video: speech of several clips in a row, one identity reference.

No ground truth exists for it, so every figure compares the video with its
identity reference, with its own beginning, or with the speech.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import reader as reader_lib


def looped_speech(
    clips: Sequence[types.Clip], seconds: float, fps: int = 25
) -> tuple[np.ndarray, np.ndarray]:
  """(waveform [S], mouth track [N]) of clips in a row, repeated as needed.

  Raises:
    ValueError: less than one second asked for.
  """
  if seconds < 1.0:
    raise ValueError(f'seconds {seconds}: expected at least 1')
  count = int(round(seconds * fps))
  waveforms, mouths, frames, index = [], [], 0, 0
  while frames < count:
    clip = clips[index % len(clips)]
    waveforms.append(clip.waveform)
    mouths.append(clip.tracks['mouth'])
    frames += len(mouths[-1])
    index += 1
  samples = count * 16000 // fps
  return np.concatenate(waveforms)[:samples], np.concatenate(mouths)[:count]


def measure(
    generate: protocol.Generate,
    clips: Sequence[types.Clip],
    seconds: float,
    reader: reader_lib.Reader,
    window_s: float = 10.0,
    fps: int = 25,
) -> tuple[dict, np.ndarray]:
  """Generates and watches one long video.

  Args:
    generate: the system under test.
    clips: the first gives the identity reference, all give speech.
    seconds: length of the video.
    reader: the puppet reader.
    window_s: length of a window of the curves.
    fps: frames per second.

  Returns:
    {'seconds', 'figures', 'curves': name -> trend as plain values}, and
    thumbnails [n, H, W, 3] uint8, one every ten seconds.
  """
  image = clips[0].frames[0]
  waveform, mouth = looped_speech(clips, seconds, fps)
  seen = observation.observe(
      generate(image, waveform), reader, thumbnail_every=int(10 * fps)
  )
  reference = reader.read([image]).embedding[0]
  return (
      _summarise(seen, mouth, reference, window_s, fps) | {'seconds': seconds},
      seen.thumbnails,
  )


def _windowed_pose(
    tracks: dict[str, np.ndarray], size: int
) -> np.ndarray:
  """[N] deviation of yaw and pitch from the mean of their own window, so that
  the mean over a window is its motion amplitude."""
  out = []
  for start in range(0, len(tracks['yaw']), size):
    part = slice(start, start + size)
    yaw, pitch = tracks['yaw'][part], tracks['pitch'][part]
    out.append(np.hypot(yaw - yaw.mean(), pitch - pitch.mean()))
  return np.concatenate(out)


def _summarise(
    seen: observation.Observation,
    mouth: np.ndarray,
    reference: np.ndarray,
    window_s: float,
    fps: int,
) -> dict:
  """Figures and curves of a watched video."""
  count = min(len(mouth), len(seen.energy))
  tracks = seen.reading.tracks
  size = int(round(window_s * fps))
  origin = seen.colours[:size].mean(axis=0)
  per_frame = {
      'identity': identity.similarity(seen.reading.embedding, reference),
      'lab_shift': drift.lab_shift(seen.colours, origin),
      'motion': _windowed_pose(tracks, size),
      'frame_energy': seen.energy,
  }
  trends = {
      name: drift.trend(curve, fps, window_s)
      for name, curve in per_frame.items()
  }
  trends['lip_sync'] = _sync_trend(
      tracks['mouth'][:count], mouth[:count], window_s, fps
  )
  ends = seen.colours[-size:].mean(axis=0) - origin
  sync = lip_sync.measure(tracks['mouth'][:count], mouth[:count])
  same = trends['identity']
  figures = {
      'frames': float(len(seen.energy)),
      'identity_first': same.first,
      'identity_last': same.last,
      'identity_change': same.last / same.first - 1.0,
      'identity_slope_per_min': same.slope,
      'identity_slope_interval': same.slope_interval,
      'lab_shift_last': float(np.linalg.norm(ends)),
      'motion_last_over_first': trends['motion'].last
      / max(trends['motion'].first, 1e-9),
      'lip_sync': sync.correlation,
      'best_lag': float(sync.best_lag),
      'lip_sync_first': trends['lip_sync'].first,
      'lip_sync_last': trends['lip_sync'].last,
  }
  return {
      'figures': figures,
      'curves': {
          name: {
              key: value.tolist() if isinstance(value, np.ndarray) else value
              for key, value in dataclasses.asdict(trend).items()
          }
          for name, trend in trends.items()
      },
  }


def _sync_trend(
    read: np.ndarray, truth: np.ndarray, window_s: float, fps: int
) -> drift.Trend:
  """Lip-sync at lag 0 window by window, as a trend."""
  size = int(round(window_s * fps))
  values = np.concatenate([
      np.full(
          len(truth[i : i + size]),
          lip_sync.correlation(read[i : i + size], truth[i : i + size]),
      )
      for i in range(0, len(truth), size)
  ])
  return drift.trend(values, fps, window_s)
