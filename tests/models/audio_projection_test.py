import numpy as np
import pytest

from asymtalker_jax.models import audio_projection


def _windows(frames):
  """Windows that hold the number of the frame that they look at."""
  at = np.arange(frames)[:, None] + np.arange(-2, 3)
  return np.clip(at, 0, frames - 1)[None, :, :, None, None].astype(np.float32)


@pytest.mark.parametrize('stride', [2, 4, 8])
def test_group_is_the_frames_around_its_latent_frame(stride):
  first, later = audio_projection.group_windows(_windows(17), stride)
  np.testing.assert_array_equal(first[0, :, 0, 0], [0, 0, 0, 1, 2])
  assert later.shape == (1, 16 // stride, stride + 4, 1, 1)
  for n, group in enumerate(later[0, :, :, 0, 0]):
    start = 1 + n * stride
    around = np.arange(start - 2, start + stride + 2)
    np.testing.assert_array_equal(group, np.clip(around, 0, 16))


def test_frames_that_are_no_whole_groups_are_refused():
  with pytest.raises(ValueError, match='16 frames'):
    audio_projection.group_windows(_windows(16), 4)
