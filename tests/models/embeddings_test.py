import jax
import numpy as np
import pytest

from asymtalker_jax.models import embeddings


def test_sinusoid_is_as_good_as_float64_angles():
  timestep = np.float32([0, 1, 250, 833.3333, 937.5, 999.99, 1000])
  got = jax.jit(lambda t: embeddings.sinusoid(t, 256))(timestep)
  frequency = 10000.0 ** -(np.arange(128) / 128)
  angle = timestep.astype(np.float64)[:, None] * frequency
  want = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
  np.testing.assert_allclose(got, want, atol=5e-7)


def test_unpatchify_inverts_patchify():
  x = np.arange(2 * 3 * 4 * 6 * 5.0).reshape(2, 3, 4, 6, 5)
  patches = embeddings.patchify(x, (1, 2, 3))
  assert patches.shape == (2, 3, 4, 30)
  # Token 1 of a frame is the top right patch; channels vary fastest.
  np.testing.assert_array_equal(
      patches[0, 0, 1], x[0, 0, :2, 3:].reshape(-1)
  )
  back = embeddings.unpatchify(patches, (1, 2, 3), (3, 4, 6))
  np.testing.assert_array_equal(back, x)


def test_latents_that_do_not_fit_the_patch_are_refused():
  with pytest.raises(ValueError, match='3x5x4.*1x2x2'):
    embeddings.patchify(np.zeros((1, 3, 5, 4, 1)), (1, 2, 2))
