"""How well the puppet reader reads: figures against ground-truth tracks."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from asymtalker_jax import types
from asymtalker_jax.evals import lip_sync
from asymtalker_jax.evals import reader as reader_lib


def area_under_curve(positives: np.ndarray, negatives: np.ndarray) -> float:
  """Probability that a positive scores above a negative (ties count half)."""
  ranks = stats.rankdata(np.concatenate([positives, negatives]))
  n, m = len(positives), len(negatives)
  return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def verify_identities(embedding: np.ndarray) -> dict[str, float]:
  """Verification and retrieval over identities.

  Args:
    embedding: [P, M, E] unit vectors, M frames of each of P different people.

  Returns:
    'auc' over all pairs; 'top1' of frames 1.. against the gallery of all
    frames 0; mean similarities 'same' and 'different'.
  """
  people, frames = embedding.shape[:2]
  flat = embedding.reshape(people * frames, -1)
  scores = flat @ flat.T
  owner = np.repeat(np.arange(people), frames)
  upper = np.triu(np.ones_like(scores, bool), 1)
  same = scores[upper & (owner[:, None] == owner)]
  different = scores[upper & (owner[:, None] != owner)]
  probes = embedding[:, 1:].reshape(people * (frames - 1), -1)
  nearest = np.argmax(probes @ embedding[:, 0].T, axis=1)
  return {
      'auc': area_under_curve(same, different),
      'top1': float(np.mean(nearest == np.repeat(np.arange(people), frames - 1))),
      'same': float(same.mean()),
      'different': float(different.mean()),
  }


def _compare(
    read: Sequence[np.ndarray], truth: Sequence[np.ndarray]
) -> dict[str, float]:
  """Figures of one track, a row per clip; see `validate`."""
  per_clip = [
      lip_sync.correlation(r, t) for r, t in zip(read, truth)
      if np.std(t) > 1e-4
  ]  # pyformat: disable
  all_read, all_truth = np.concatenate(read), np.concatenate(truth)
  return {
      'per_clip': float(np.mean(per_clip)),
      'worst_clip': float(np.min(per_clip)),
      'overall': lip_sync.correlation(all_read, all_truth),
      'mean_error': float(np.mean(np.abs(all_read - all_truth))),
  }


def validate(
    reader: reader_lib.Reader,
    clips: Sequence[types.Clip],
    alter: Callable[[np.ndarray], np.ndarray] | None = None,
    gallery_frames: int = 8,
) -> dict:
  """Figures of a reader on clips.

  Args:
    reader: to validate.
    clips: of different people, with tracks.
    alter: [N, H, W, 3] uint8 -> the same, applied to the frames first (blur,
      other surroundings); identity frame 0 stays as it is.
    gallery_frames: frames per clip for the identity figures.

  Returns:
    {'tracks': name -> {'per_clip' mean correlation, 'worst_clip', 'overall',
    'mean_error'}, 'identity': `verify_identities`}.
  """
  names = reader.config['tracks']
  read = {name: [] for name in names}
  truth = {name: [] for name in names}
  embedding = []
  for index in range(len(clips)):
    clip = clips[index]
    frames = clip.frames
    if alter is not None:
      frames = np.concatenate([frames[:1], alter(frames[1:])])
    reading = reader.read(frames)
    for name in names:
      read[name].append(reading.tracks[name])
      truth[name].append(clip.tracks[name])
    at = np.linspace(0, len(frames) - 1, gallery_frames).astype(int)
    embedding.append(reading.embedding[at])
  return {
      'clips': len(clips),
      'tracks': {name: _compare(read[name], truth[name]) for name in names},
      'identity': verify_identities(np.stack(embedding)),
  }
