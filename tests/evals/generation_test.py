"""A bundle of random weights as a system under test."""

import numpy as np
import pytest

from asymtalker_jax import sampler_values
from asymtalker_jax.evals import generation
from asymtalker_jax.evals import speed
from tests.evals import tiny_bundle


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('bundle')
  tiny_bundle.write(path)
  return path


def _inputs(frames):
  image = np.full((32, 32, 3), 90, np.uint8)
  return image, np.zeros(640 * frames, np.float32)


def test_student_makes_every_frame_and_reports(folder):
  student = generation.load_bundle(folder, 'student')
  model = generation.Generation(student, steps=1)
  frames = list(model(*_inputs(11)))
  assert len(frames) == 11 and frames[0].dtype == np.uint8
  list(model(*_inputs(4)))
  summary = speed.summarise(model.reports)
  assert summary['frames'] == 15 and summary['peak_rss_mb'] > 50
  assert model.reports[0]['first_frame_s'] < model.reports[0]['wall_s']
  assert len(model.reports[0]['memory_mb']) > 1


def test_memory_growth_leaves_the_first_chunk_out():
  held = [1.0] + [100.0] * 30 + [110.0] * 30
  got = generation.memory_growth(held, seconds=120)
  np.testing.assert_allclose(got, 0.1, atol=0.001)
  assert generation.memory_growth([5.0], seconds=1) == 0.0


def test_noise_depends_on_the_name_and_the_seed_only(folder):
  bundle = generation.load_bundle(folder, 'student')
  first = generation.Generation(bundle, steps=1)
  videos = [list(first(*_inputs(4), name=name)) for name in 'aba']
  np.testing.assert_array_equal(videos[0], videos[2])
  assert np.abs(np.subtract(videos[0], videos[1], dtype=float)).max() > 0


def test_teacher_samples_with_its_own_weights_and_steps(folder):
  teacher = generation.load_bundle(folder, 'teacher')
  assert 'teacher' in teacher.params and 'dit' not in teacher.params
  model = generation.Generation(teacher, 'teacher', steps=2, guidance=1.5)
  assert len(list(model(*_inputs(4)))) == 4


def test_wrong_roles_and_guidance_are_refused(folder):
  with pytest.raises(ValueError, match="role 'critic'"):
    generation.load_bundle(folder, 'critic')
  config = {'sampler': sampler_values.DEFAULTS}
  with pytest.raises(ValueError, match='a student has none'):
    generation.sampler(config, 'student', None, 2.0)
  with pytest.raises(ValueError, match='steps'):
    generation.sampler(config, 'teacher', 2000, None)
