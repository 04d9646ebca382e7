"""Motion, identity and speed with known answers."""

import numpy as np
import pytest

from asymtalker_jax.evals import identity
from asymtalker_jax.evals import motion
from asymtalker_jax.evals import speed


def test_half_the_head_motion_has_amplitude_one_half():
  yaw = np.sin(np.arange(100) / 7.0)
  truth = motion.pose_variance({'yaw': yaw, 'pitch': 0.3 * yaw})
  calm = motion.pose_variance({'yaw': yaw / 2, 'pitch': 0.15 * yaw})
  np.testing.assert_allclose(motion.amplitude([calm], [truth]), 0.5)
  with pytest.raises(ValueError, match='without any motion'):
    motion.amplitude([1.0], [0.0])


def test_frame_energy_of_a_flicker():
  frames = np.zeros((5, 4, 4, 3), np.uint8)
  frames[1::2] = 6
  assert motion.frame_energy(frames) == 36.0
  assert motion.frame_energy(frames[:1]) == 0.0


def test_identity_is_the_cosine():
  embedding = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [1.0, 1.0]])
  got = identity.similarity(embedding, np.array([3.0, 0.0]))
  np.testing.assert_allclose(got, [1.0, 0.0, -1.0, np.sqrt(0.5)])
  np.testing.assert_allclose(
      identity.relative(np.full(4, 0.6), np.full(9, 0.8)), 0.75
  )


def test_speed_counts_all_frames_over_all_time():
  report = dict(
      frames=100, wall_s=4.0, frames_per_s=25.0, first_frame_s=0.5,
      peak_rss_mb=900.0,
  )
  faster = report | dict(frames=300, wall_s=4.0, peak_rss_mb=800.0)
  got = speed.summarise([report, faster])
  assert got['frames_per_s'] == 50.0 and got['peak_rss_mb'] == 900.0
  with pytest.raises(ValueError, match='peak_rss_mb'):
    speed.summarise([{'frames': 1, 'wall_s': 1, 'frames_per_s': 1,
                      'first_frame_s': 1}])
