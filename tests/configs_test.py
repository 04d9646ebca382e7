"""Configs hold what the code reads: every section builds, for every size."""

import importlib.util
import pathlib

import jax
import pytest

from asymtalker_jax import sampler_values
from asymtalker_jax.asymmetric_distillation import views
from asymtalker_jax.flow import losses, path
from asymtalker_jax.models import variants
from asymtalker_jax.temporal_reference_encoding import MODES
from asymtalker_jax.train import loop, optimizer

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


@pytest.mark.parametrize('size', module('encode').SIZES)
def test_clips_are_encoded_with_the_windows_of_a_rollout(size):
  assert config('encode', size).windows >= config('student', size).chunks


@pytest.mark.parametrize('size', ('pro', 'lite'))
def test_full_sizes_have_the_published_number_of_parameters(size):
  values = config('student', size)
  networks = variants.build(variants.values_of(values.variant))
  shapes = jax.eval_shape(networks.init_dit, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  # Wan2.1-1.3B: 1.42e9 with text; here audio layers instead.
  assert 1.3e9 < count < 1.6e9
  assert values.variant == config('teacher', size).variant == size
  assert networks.dit.config.dtype == 'bfloat16'


@pytest.mark.parametrize('name', ('teacher', 'student'))
@pytest.mark.parametrize('size', ('pro', 'lite'))
def test_full_sizes_keep_the_structure_of_tiny(name, size):
  flat = lambda tree: jax.tree_util.tree_flatten_with_path(tree)[0]
  names = lambda values: [path for path, _ in flat(values.to_dict())]
  assert names(config(name, size)) == names(config(name))


def test_student_config_is_the_method():
  values = config('student')
  assert views.Arm(**values.continuity) == views.Arm(
      student='self', teacher='ground_truth', critic='ground_truth'
  )
  assert values.continuity_carry == sampler_values.CARRIES[0]
  optimizer.build(values.critic_optimizer)
  # The published noise levels are those of the published size.
  shift = config('student', 'pro').flow.shift
  sigmas = path.shifted_sigmas(values.sampler.timesteps, shift)
  assert [round(1000 * s, 2) for s in sigmas.tolist()] == [
      1000, 937.5, 833.33, 625, 0,
  ]


def test_teacher_and_encoding_configs_name_known_choices():
  assert config('teacher').flow.weighting in losses.WEIGHTINGS
  assert config('encode').reference_encoding in MODES
