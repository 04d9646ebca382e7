"""A model is given reference latents as the data it was trained on had them."""

import importlib.util
import json
import pathlib
import types

import jax
import numpy as np
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.inputs import encoded
from asymtalker_jax.models import variants
from asymtalker_jax.train import encode_dataset
from asymtalker_jax.train import loop
from asymtalker_jax.train import student
from asymtalker_jax.train import teacher

CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'


def config(name):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  values = module.get_config('micro')
  values.batch_size = 1
  return values


@pytest.fixture(scope='module')
def params():
  """Zeros of the shapes of micro."""
  networks = variants.build(variants.values_of('micro'))
  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  return jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)


@pytest.fixture
def data(tmp_path, params):
  """One clip, encoded with 'static'."""
  values = variants.values_of('micro')
  bundle.save(
      tmp_path / encode_dataset.VAE_FOLDER, variant='micro', model=values,
      params={'vae': params['vae']},
  )
  networks = variants.build(values)
  plan, audio = networks.chunk, networks.audio.config
  windows = 5
  frames = windows * plan.new_frames + plan.continuity_frames
  example = {
      'latents': np.zeros((windows, *plan.latent_shape), np.float16),
      'reference_latents': np.zeros((1, *plan.latent_shape), np.float16),
      'audio': np.zeros((frames, audio.layers, audio.channels), np.float16),
      'identity': np.asarray(0, np.int64),
  }
  for split in ('train', 'test'):
    encoded.write_encoded(
        str(tmp_path), split, lambda start: [example], 1,
        meta={'reference_encoding': 'static'},
    )
  return str(tmp_path)


def save_teacher(folder, params, variant='micro'):
  """A teacher of size micro that says it is of size `variant`."""
  bundle.save(
      folder, variant=variant, model=variants.values_of('micro'),
      params={'vae': params['vae'], 'teacher': params['dit']},
  )
  return str(folder)


def test_teacher_notes_how_its_data_was_encoded(
    data, params, tmp_path, monkeypatch
):
  seen = {}
  state = types.SimpleNamespace(ema=params['dit'])
  monkeypatch.setattr(
      loop, 'train', lambda *unused, **options: loop.Result(
          state=state, step=1, stopped='steps'))
  monkeypatch.setattr(bundle, 'save', lambda *unused, **what: seen.update(what))
  teacher.train(config('teacher'), data, str(tmp_path / 'teacher'))
  expected = variants.values_of('micro') | {'reference_encoding': 'static'}
  # What came from the folder went through JSON.
  assert json.dumps(seen['model']) == json.dumps(expected)


def test_networks_of_another_size_than_the_config_s_are_refused(
    data, params, tmp_path
):
  other = save_teacher(tmp_path / 'teacher', params, variant='tiny')
  run = str(tmp_path / 'run')
  with pytest.raises(ValueError, match="size 'tiny'.*is for 'micro'"):
    student.train(config('student'), data, other, run)
  changed = config('teacher')
  changed.variant = 'tiny'
  with pytest.raises(ValueError, match="size 'micro'.*is for 'tiny'"):
    teacher.train(changed, data, run)
  assert not pathlib.Path(run).exists()


def test_student_refuses_data_that_its_teacher_does_not_know(
    data, params, tmp_path
):
  other = save_teacher(tmp_path / 'teacher', params)
  with pytest.raises(ValueError, match="'static'; the teacher .* 'temporal'"):
    student.train(config('student'), data, other, str(tmp_path / 'run'))
