"""Configs hold what the code reads: every section builds, for every size."""

import importlib.util
import pathlib

import pytest

from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import losses, path
from asymtalker_jax.models import variants
from asymtalker_jax.temporal_reference_encoding import MODES
from asymtalker_jax.train import loop, optimizer, student

FOLDER = pathlib.Path(__file__).parents[1] / 'configs'
NAMES = sorted(p.stem for p in FOLDER.glob('*.py'))
TRAININGS = ('vae', 'teacher', 'student')


def module(name):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


def config(name, size='tiny'):
  return module(name).get_config(size)


@pytest.mark.parametrize('name', NAMES)
def test_every_config_says_how_to_run_it_and_refuses_unknown_sizes(name):
  assert 'asymtalker' in module(name).__doc__
  assert config(name).to_dict()
  with pytest.raises(ValueError, match="'huge'"):
    config(name, 'huge')


@pytest.mark.parametrize('name', TRAININGS)
def test_trainings_have_what_the_loop_and_the_optimiser_need(name):
  values = config(name)
  assert set(loop.KEYS) <= set(values)
  assert values.variant in variants.VARIANTS
  optimizer.build(values.optimizer)


def test_sizes_of_a_job_have_the_same_keys():
  for name in TRAININGS:
    keys = [
        sorted(config(name, size).to_dict()) for size in module(name).SIZES
    ]
    assert all(k == keys[0] for k in keys), name


def test_student_config_is_the_method():
  values = config('student')
  assert views.Arm(**values.continuity) == views.Arm(
      student='self', teacher='ground_truth', critic='ground_truth'
  )
  assert values.continuity_carry == student.CARRIES[0]
  optimizer.build(values.critic_optimizer)
  sigmas = path.shifted_sigmas(values.sampler.timesteps, values.flow.shift)
  assert [round(1000 * s, 2) for s in sigmas.tolist()] == [
      1000, 937.5, 833.33, 625, 0,
  ]


def test_teacher_and_encoding_configs_name_known_choices():
  assert config('teacher').flow.weighting in losses.WEIGHTINGS
  assert config('encode').reference_encoding in MODES
