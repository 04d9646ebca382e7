"""The evaluation of one system: clip by clip, then over all clips.

A system is a function from a clip to frames: a bundle that generates, the
ground truth itself, or the VAE's reconstruction of it. The last two say how
much of a figure the reader and the VAE take away before any generation.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses

from absl import logging
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import drift
from asymtalker_jax.evals import fidelity
from asymtalker_jax.evals import frechet
from asymtalker_jax.evals import identity
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import motion
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import reader as reader_lib

# frames [H, W, 3] uint8 for an identity reference [H, W, 3] uint8 and speech
# [S] float32 at 16 kHz.
Generate = Callable[[np.ndarray, np.ndarray], Iterable[np.ndarray]]
System = Callable[[types.Clip], Iterable[np.ndarray]]
# Features of this many frames per system enter KID (its cost is quadratic).
KID_FRAMES = 2000
THUMBNAIL_EVERY = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipScore:
  """Figures of one video against its ground truth.

  Attributes:
    sync: lip-sync against the ground-truth mouth track.
    identity: [N] similarity to the identity reference.
    pose_variance: of the read yaw and pitch.
    energy: mean frame energy.
    squared_error: over whole frames; still_squared_error: where ground truth
      stands still, NaN where no pixel does.
    still_share: share of pixels that stand still.
    ssim: mean.
    lab_shift: Lab distance of the mean colour to ground truth.
    features: [N, D].
    thumbnails: [n, H, W, 3] uint8, one frame in THUMBNAIL_EVERY.
  """

  sync: lip_sync.LipSync
  identity: np.ndarray
  pose_variance: float
  energy: float
  squared_error: float
  still_squared_error: float
  still_share: float
  ssim: float
  lab_shift: float
  features: np.ndarray
  thumbnails: np.ndarray


def from_generator(generate: Generate) -> System:
  """The system that generates from a clip's first frame and its speech."""
  return lambda clip: generate(clip.frames[0], clip.waveform)


def ground_truth(clip: types.Clip) -> np.ndarray:
  """The system that cannot be beaten."""
  return clip.frames


def score_clip(
    frames: Iterable[np.ndarray], clip: types.Clip, reader: reader_lib.Reader
) -> ClipScore:
  """Figures of the frames that a system made for a clip.

  Args:
    frames: [H, W, 3] uint8, as many as the clip has.
    clip: with a 'mouth' track.
    reader: the puppet reader.

  Raises:
    ValueError: another number of frames, or a clip without a mouth track.
  """
  if 'mouth' not in clip.tracks:
    raise ValueError(
        f'clip with tracks {sorted(clip.tracks)}: lip-sync needs "mouth"'
    )
  frames = np.stack(list(frames))
  if len(frames) != len(clip.frames):
    raise ValueError(
        f'{len(frames)} frames for a clip of {len(clip.frames)}: expected '
        'equal numbers'
    )
  seen = observation.observe(frames, reader, THUMBNAIL_EVERY)
  reference = reader.read(clip.frames[:1]).embedding[0]
  mask = fidelity.still_mask(clip.frames)
  still = np.nan
  if mask.any():
    still = fidelity.squared_error(frames, clip.frames, mask)
  truth_colour = drift.mean_colours(clip.frames).mean(axis=0)
  tracks = seen.reading.tracks
  return ClipScore(
      sync=lip_sync.measure(tracks['mouth'], clip.tracks['mouth']),
      identity=identity.similarity(seen.reading.embedding, reference),
      pose_variance=motion.pose_variance(tracks),
      energy=float(seen.energy[1:].mean()),
      squared_error=fidelity.squared_error(frames, clip.frames),
      still_squared_error=still,
      still_share=float(mask.mean()),
      ssim=fidelity.mean_ssim(frames, clip.frames),
      lab_shift=float(
          np.linalg.norm(seen.colours.mean(axis=0) - truth_colour)
      ),
      features=seen.reading.features,
      thumbnails=seen.thumbnails,
  )


def _moments(scores: Sequence[ClipScore]) -> frechet.Moments:
  """Moments of the reader features of all frames."""
  moments = frechet.Moments(scores[0].features.shape[1])
  for score in scores:
    moments.update(score.features)
  return moments


def _thinned(scores: Sequence[ClipScore]) -> np.ndarray:
  """At most KID_FRAMES features, spread evenly."""
  features = np.concatenate([score.features for score in scores])
  return features[:: -(-len(features) // KID_FRAMES)]


def _mean_psnr(errors: Iterable[float]) -> float:
  """Mean over clips of PSNR in dB; clips without a figure are left out."""
  values = [fidelity.psnr(error) for error in errors if np.isfinite(error)]
  return float(np.mean(values)) if values else float('nan')


def summarise(
    scores: Sequence[ClipScore], truth: Sequence[ClipScore]
) -> dict[str, float]:
  """Figures over clips, relative to ground truth read by the same reader.

  Args:
    scores: of the system, one per clip.
    truth: of `ground_truth` on the same clips.
  """
  sync = lip_sync.mean([score.sync for score in scores])
  ratios = [
      identity.relative(s.identity, t.identity) for s, t in zip(scores, truth)
  ]
  return {
      'lip_sync': sync.correlation,
      'best_lag': float(sync.best_lag),
      'lip_sync_at_best_lag': sync.best,
      'lip_sync_worst_clip': min(score.sync.correlation for score in scores),
      'identity': float(np.mean([score.identity.mean() for score in scores])),
      'identity_relative': float(np.mean(ratios)),
      'motion_amplitude': motion.amplitude(
          [score.pose_variance for score in scores],
          [score.pose_variance for score in truth],
      ),
      'frame_energy': motion.amplitude(
          [score.energy for score in scores], [score.energy for score in truth]
      ),
      'psnr': _mean_psnr(score.squared_error for score in scores),
      'psnr_still': _mean_psnr(score.still_squared_error for score in scores),
      'still_share': float(np.mean([score.still_share for score in scores])),
      'ssim': float(np.mean([score.ssim for score in scores])),
      'lab_shift': float(np.mean([score.lab_shift for score in scores])),
      'frechet': frechet.distance(_moments(scores), _moments(truth)),
      'kid': frechet.kid(_thinned(scores), _thinned(truth)),
  }


def curves(scores: Sequence[ClipScore], fps: int = 25) -> dict[str, list]:
  """Means over clips to plot: lip-sync over lags, identity over time."""
  shortest = min(len(score.identity) for score in scores)
  sync = lip_sync.mean([score.sync for score in scores])
  return {
      'lags': sync.lags.tolist(),
      'lip_sync': sync.curve.tolist(),
      'times': (np.arange(shortest) / fps).tolist(),
      'identity': np.mean(
          [score.identity[:shortest] for score in scores], axis=0
      ).tolist(),
  }


def run(
    systems: dict[str, System],
    clips: Sequence[types.Clip],
    reader: reader_lib.Reader,
) -> tuple[dict[str, dict], dict[str, list[ClipScore]]]:
  """Scores every system on every clip; 'gt' is added in front.

  Returns:
    Per system {'figures', 'curves', 'clips'}, and its scores.

  Raises:
    ValueError: no clips.
  """
  if not len(clips):
    raise ValueError('0 clips: expected at least 1 to evaluate')
  systems = {'gt': ground_truth} | systems
  scores, people = {name: [] for name in systems}, []
  for index, clip in enumerate(clips):
    people.append(int(clip.identity))
    for name, system in systems.items():
      score = score_clip(system(clip), clip, reader)
      scores[name].append(score)
      logging.info(
          'clip %d/%d %s: lip-sync %.3f, identity %.3f',
          index + 1, len(clips), name, score.sync.correlation,
          score.identity.mean(),
      )
  results = {}
  for name, rows in scores.items():
    results[name] = {
        'figures': summarise(rows, scores['gt']),
        'curves': curves(rows),
        'clips': [
            {
                'person': person,
                'lip_sync': row.sync.correlation,
                'best_lag': row.sync.best_lag,
                'identity': float(row.identity.mean()),
                'psnr_still': fidelity.psnr(row.still_squared_error)
                if np.isfinite(row.still_squared_error)
                else None,
            }
            for person, row in zip(people, rows)
        ],
    }
  return results, scores
