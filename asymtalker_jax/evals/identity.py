"""Identity: cosine similarity of each frame to the identity reference."""

import numpy as np


def similarity(embedding: np.ndarray, reference: np.ndarray) -> np.ndarray:
  """[N] cosine similarities.

  Args:
    embedding: [N, E] of the frames, any length > 0.
    reference: [E] of the reference image.
  """
  embedding = np.asarray(embedding, np.float64)
  reference = np.asarray(reference, np.float64)
  scale = np.linalg.norm(embedding, axis=-1) * np.linalg.norm(reference)
  return embedding @ reference / np.maximum(scale, 1e-12)


def relative(generated: np.ndarray, truth: np.ndarray) -> float:
  """Mean similarity of generated frames as a share of what ground-truth frames
  of the same person get: pose and expression lower both."""
  return float(np.mean(generated) / np.mean(truth))
