"""Long videos: speech of several clips in a row, one identity reference each.

No ground truth exists for them, so every figure compares a video with its
identity reference, with its own beginning, with the speech, or (as a
distribution) with ground-truth frames of other videos.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import hashlib

import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import reader as reader_lib

# Failure of a window, relative to the first one.
LIMITS = {
    'identity': drift.Limit(change=0.1),
    'lab_shift': drift.Limit(change=5.0, relative=False, rising=True),
    'lip_sync': drift.Limit(change=0.5),
    'motion': drift.Limit(change=0.8),
    'frechet': drift.Limit(change=1.0, rising=True),
}
THUMBNAIL_S = 10.0
# So many frames has lip-sync, the longest of what a figure needs.
LEAST_S = 4 * lip_sync.MAX_LAG / 25


def looped_speech(
    clips: Sequence[types.Clip], seconds: float, fps: int = 25
) -> tuple[np.ndarray, np.ndarray]:
  """(waveform [S], mouth track [N]) of clips in a row, repeated as needed.

  Raises:
    ValueError: less than LEAST_S asked for.
  """
  if seconds < LEAST_S:
    raise ValueError(f'seconds {seconds:g}: expected at least {LEAST_S:g}')
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


def case(clips: Sequence[types.Clip], seconds: float) -> cases_lib.Case:
  """The task: the first clip's face, everybody's speech.

  Its ground truth has a mouth track and no frames but the first. Its name
  changes with face, speech and track, so that a kept video of others is not
  taken for this one.

  Raises:
    ValueError: less than LEAST_S, or clips without a mouth track.
  """
  if any('mouth' not in clip.tracks for clip in clips):
    raise ValueError('a long video needs clips with a "mouth" track')
  waveform, mouth = looped_speech(clips, seconds)
  image = clips[0].frames[0]
  content = hashlib.blake2b(digest_size=4)
  for part in (image, waveform, mouth):
    content.update(np.ascontiguousarray(part))
  clip = types.Clip(
      frames=clips[0].frames[:1],
      waveform=waveform,
      identity=clips[0].identity,
      tracks={'mouth': mouth},
  )
  return cases_lib.Case(
      name=f'long_{seconds:g}s_{content.hexdigest()}', image=image, clip=clip
  )


def cases(
    clips: Sequence[types.Clip], seconds: float, people: int
) -> list[cases_lib.Case]:
  """`case` for each of the first people; their speech begins with their own.

  Raises:
    ValueError: as `case`, or clips of fewer people.
  """
  first = {}
  for index, clip in enumerate(clips):
    first.setdefault(int(clip.identity), index)
  if people > len(first):
    raise ValueError(
        f'--long_videos={people}: {len(clips)} clips are of {len(first)}'
        ' different people; expected at most as many'
    )
  starts = list(first.values())[:people]
  return [case([*clips[i:], *clips[:i]], seconds) for i in starts]


def ground_truth(
    clips: Sequence[types.Clip], reader: reader_lib.Reader
) -> frechet.Moments:
  """Reader features of all frames, that windows are compared with as a
  distribution."""
  truth = frechet.Moments(reader.config['features'])
  for clip in clips:
    truth.update(reader.read(clip.frames).features)
  return truth


def measure(
    frames: Iterable[np.ndarray],
    task: cases_lib.Case,
    truth: frechet.Moments,
    reader: reader_lib.Reader,
    window_s: float = 10.0,
    fps: int = 25,
) -> tuple[dict, np.ndarray]:
  """Watches one long video once; memory grows by about 1 KB per frame.

  Args:
    frames: [H, W, 3] uint8 one by one, of the system under test.
    task: of `case`.
    truth: of `ground_truth`.
    reader: the puppet reader.
    window_s: length of a window of the curves.
    fps: frames per second.

  Returns:
    {'seconds', 'window_s', 'figures', 'curves': name -> trend as plain values,
    'protocol'}, and thumbnails [n, H, W, 3] uint8, one every THUMBNAIL_S.
  """
  seen = observation.observe(
      frames, reader, thumbnail_every=int(THUMBNAIL_S * fps)
  )
  reference = reader.read([task.image]).embedding[0]
  mouth = task.clip.tracks['mouth']
  return (
      _summarise(seen, mouth, reference, truth, window_s, fps)
      | {'seconds': len(seen.energy) / fps, 'window_s': window_s},
      seen.thumbnails,
  )


def mean_figures(results: Sequence[dict]) -> dict[str, float]:
  """Mean over videos; of a figure that one of them lacks there is none.

  The interval of the slope is that of one video, or of the mean of several.
  """
  column = lambda name: [result['figures'][name] for result in results]
  figures = {
      name: float(np.mean(column(name))) for name in results[0]['figures']
  }
  if len(results) > 1:
    slopes = column('identity_slope_per_min')
    figures['identity_slope_interval'] = drift.interval(slopes)
  return figures


def notes(results: Sequence[dict]) -> list[str]:
  """What the distances of the windows rest on, and a warning where that is
  too little to be compared."""
  found = results[0]['protocol']
  lines = [f'Frechet distance: {found["frechet"]}']
  if found['few_samples']:
    lines.append(
        'fewer frames per window than features: the distance is not comparable'
        ' with that of other windows'
    )
  return lines


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


def _windowed_frechet(
    features: np.ndarray, truth: frechet.Moments, size: int
) -> np.ndarray:
  """[N] distance of each frame's window of features to ground truth."""
  count = max(int(np.floor(len(features) / size + 0.5)), 1)
  edges = np.append(np.arange(count) * size, len(features))
  out = []
  for start, end in zip(edges[:-1], edges[1:]):
    moments = frechet.Moments(features.shape[1])
    moments.update(features[start:end])
    out.append(np.full(end - start, frechet.distance(moments, truth)))
  return np.concatenate(out)


def _curves(seen, mouth, reference, truth, size) -> dict[str, np.ndarray]:
  """Name -> [N], one value per frame."""
  count = min(len(mouth), len(seen.energy))
  tracks = seen.reading.tracks
  origin = seen.colours[:size].mean(axis=0)
  found = {
      'identity': identity.similarity(seen.reading.embedding, reference),
      'lab_shift': drift.lab_shift(seen.colours, origin),
      'motion': _windowed_pose(tracks, size),
      'frame_energy': seen.energy,
      'lip_sync': _windowed_sync(tracks['mouth'][:count], mouth[:count], size),
  }
  if size > 1 and len(seen.energy) > 1:
    found['frechet'] = _windowed_frechet(seen.reading.features, truth, size)
  return found


def _summarise(
    seen: observation.Observation,
    mouth: np.ndarray,
    reference: np.ndarray,
    truth: frechet.Moments,
    window_s: float,
    fps: int,
) -> dict:
  """Figures and curves of a watched video."""
  size = int(round(window_s * fps))
  per_frame = _curves(seen, mouth, reference, truth, size)
  trends = {
      name: drift.trend(curve, fps, window_s)
      for name, curve in per_frame.items()
  }
  failures = {
      name: drift.time_to_failure(trends[name], limit)
      for name, limit in LIMITS.items()
      if name in trends
  }
  early = drift.trend(per_frame['identity'][: 60 * fps], fps, window_s)
  happened = [time for time in failures.values() if time is not None]
  figures = _figures(seen, mouth, trends, size) | {
      'identity_slope_first_min': early.slope,
      # Not "never" where nothing fails: a mean would leave out the best videos.
      'within_limits_s': min(happened, default=len(seen.energy) / fps),
  }
  return {
      'figures': figures,
      'curves': {
          name: _plain(trend) | {'time_to_failure_s': failures.get(name)}
          for name, trend in trends.items()
      },
      'protocol': {
          'frechet': f'{size} frames per window against {truth.count} frames of'
          f' ground truth, {len(truth.mean)} reader features',
          'few_samples': min(size, truth.count) < len(truth.mean),
          'failure': {
              name: dataclasses.asdict(limit) for name, limit in LIMITS.items()
          },
      },
  }


def _figures(seen, mouth, trends, size) -> dict[str, float]:
  """Figures of the whole video and of its ends."""
  count = min(len(mouth), len(seen.energy))
  read = seen.reading.tracks['mouth']
  sync = lip_sync.measure(read[:count], mouth[:count])
  ends = seen.colours[-size:].mean(axis=0) - seen.colours[:size].mean(axis=0)
  same, moved = trends['identity'], trends['motion']
  figures = {
      'frames': float(len(seen.energy)),
      'identity_first': same.first,
      'identity_last': same.last,
      'identity_change': same.last / same.first - 1.0,
      'identity_slope_per_min': same.slope,
      'identity_slope_interval': same.slope_interval,
      'lab_shift_last': float(np.linalg.norm(ends)),
      'motion_last_over_first': moved.last / max(moved.first, 1e-9),
      'lip_sync': sync.correlation,
      'best_lag': float(sync.best_lag),
      'lip_sync_first': trends['lip_sync'].first,
      'lip_sync_last': trends['lip_sync'].last,
  }
  if 'frechet' in trends:
    figures['frechet_first'] = trends['frechet'].first
    figures['frechet_last'] = trends['frechet'].last
  return figures


def _plain(trend: drift.Trend) -> dict:
  """A trend for JSON."""
  return {
      key: value.tolist() if isinstance(value, np.ndarray) else value
      for key, value in dataclasses.asdict(trend).items()
  }


def _windowed_sync(
    read: np.ndarray, truth: np.ndarray, size: int
) -> np.ndarray:
  """[N] lip-sync at lag 0 of each frame's window."""
  return np.concatenate([
      np.full(
          len(truth[i : i + size]),
          lip_sync.correlation(read[i : i + size], truth[i : i + size]),
      )
      for i in range(0, len(truth), size)
  ])
