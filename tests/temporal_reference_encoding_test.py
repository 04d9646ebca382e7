import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax import temporal_reference_encoding as tre

F, T = 9, 3


def vae_encode(video):
  """Causal stand-in: slot 0 is the first frame, later slots sums of groups."""
  first = video[:, :1, ::2, ::2]
  rest = video[:, 1:, ::2, ::2]
  groups = rest.reshape(rest.shape[0], -1, 4, *rest.shape[2:]).sum(2)
  return jnp.concatenate([first, groups], axis=1)


@pytest.fixture
def image():
  return np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)


def test_temporal_mode_encodes_a_video_of_the_replicated_image(image):
  got = tre.encode_reference(image, vae_encode, F)
  small = image[:, ::2, ::2]
  np.testing.assert_allclose(got, np.stack([small, 4 * small, 4 * small], 1))


def test_static_mode_repeats_the_single_image_latent(image):
  got = tre.encode_reference(image, vae_encode, F, 'static')
  np.testing.assert_allclose(got, np.stack([image[:, ::2, ::2]] * T, 1))


def test_first_frame_mode_leaves_later_slots_empty(image):
  got = np.asarray(tre.encode_reference(image, vae_encode, F, 'first_frame'))
  np.testing.assert_allclose(got[:, 0], image[:, ::2, ::2])
  assert got.shape[1] == T and not got[:, 1:].any()


def test_unknown_mode_names_the_choices(image):
  with pytest.raises(ValueError, match="'clip'.*temporal.*static"):
    tre.encode_reference(image, vae_encode, F, 'clip')
