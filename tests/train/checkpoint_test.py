"""Checkpoints: whole, complete, of this config."""

import os
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.train import checkpoint
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib

CONFIG = {'optimizer': {'lr': 0.1}, 'steps': 10, 'batch_size': 4}
TX, _ = optimizer.build(dict(lr=0.1))


def make(value):
  return state_lib.TrainState.create({'kernel': jnp.full((3, 2), value)}, TX)


def save(folder, *steps, config=CONFIG, **options):
  saver = checkpoint.Checkpointer(str(folder), config, **options)
  for step in steps:
    saver.save(step, checkpoint.Checkpoint(
        state=make(float(step)), iterator={'next_index': step}, seconds=step / 2
    ))
  saver.close()


def restore(folder, config=CONFIG):
  saver = checkpoint.Checkpointer(str(folder), config)
  try:
    return saver.restore_or_init(make(0.0), lambda: make(-1.0))
  finally:
    saver.close()


def test_state_iterator_and_clock_come_back_together(tmp_path):
  save(tmp_path, 3, 7)
  found = restore(tmp_path)
  assert isinstance(found.state, state_lib.TrainState)
  np.testing.assert_array_equal(found.state.params['kernel'], 7)
  assert jax.tree.structure(found.state) == jax.tree.structure(make(0.0))
  assert dict(found.iterator) == {'next_index': 7} and found.seconds == 3.5


def test_empty_folder_gives_a_fresh_state(tmp_path):
  found = restore(tmp_path / 'new')
  np.testing.assert_array_equal(found.state.params['kernel'], -1)
  assert not found.iterator and found.seconds == 0


def test_partly_written_checkpoint_does_not_count(tmp_path):
  save(tmp_path, 3)
  partial = tmp_path / '9.orbax-checkpoint-tmp'
  partial.mkdir()
  (partial / 'state').write_text('half')
  assert restore(tmp_path).iterator['next_index'] == 3
  assert not partial.exists()


def test_only_the_newest_are_kept(tmp_path):
  save(tmp_path, 1, 2, 3, 4, keep=2)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['3', '4']


def test_saving_a_step_twice_is_refused_quietly(tmp_path):
  save(tmp_path, 3)
  saver = checkpoint.Checkpointer(str(tmp_path), CONFIG)
  again = checkpoint.Checkpoint(state=make(0.0), iterator={})
  assert not saver.save(3, again)
  saver.close()


def test_another_config_is_refused_with_the_difference_in_one_line(tmp_path):
  save(tmp_path, 3)
  with pytest.raises(ValueError) as error:
    restore(tmp_path, CONFIG | {'optimizer': {'lr': 0.2}, 'new': 1})
  message = str(error.value)
  assert 'optimizer.lr: 0.1 in the checkpoint, 0.2 now' in message
  assert "new: 'absent' in the checkpoint, 1 now" in message
  assert '\n' not in message


def test_arrays_of_another_network_are_listed_beside_the_config(tmp_path):
  save(tmp_path, 3)
  other = state_lib.TrainState.create({'kernel': jnp.zeros((4, 2))}, TX)
  saver = checkpoint.Checkpointer(str(tmp_path), CONFIG | {'batch_size': 8})
  with pytest.raises(ValueError) as error:
    saver.restore_or_init(other, lambda: other)
  saver.close()
  message = str(error.value)
  assert 'config: batch_size: 4 in the checkpoint, 8 now; arrays: ' in message
  assert "params/kernel: 'float32[3, 2]' in the checkpoint" in message
  assert "'float32[4, 2]' now" in message and '\n' not in message


@pytest.mark.parametrize('lost', ['progress', 'state/manifest.ocdbt',
                                  'state/_METADATA', 'state/d'])
def test_missing_file_is_one_line_that_says_what_to_do(tmp_path, lost):
  save(tmp_path, 3, 7)
  path = tmp_path / '7' / lost
  shutil.rmtree(path) if path.is_dir() else path.unlink()
  with pytest.raises(ValueError) as error:
    restore(tmp_path)
  message = str(error.value)
  assert f'{tmp_path}/7 cannot be read' in message and '\n' not in message
  assert 'delete the folder to go on from step 3' in message
  shutil.rmtree(tmp_path / '7')
  assert restore(tmp_path).iterator['next_index'] == 3


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path):
  save(tmp_path, 3, keep=1)
  saver = checkpoint.Checkpointer(str(tmp_path), CONFIG, keep=1)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
  try:
    with pytest.raises(OSError) as error:
      saver.save(7, checkpoint.Checkpoint(state=make(7.0), iterator={}))
      saver.wait()
    saver.close()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  message = str(error.value)
  assert 'could not be written' in message and '\n' not in message
  assert message.endswith('the newest complete one is of step 3')
  assert [p.name for p in tmp_path.iterdir()] == ['3']
  assert restore(tmp_path).iterator['next_index'] == 3


@pytest.mark.parametrize(
    'best, kept', [('min', ['3', '5']), ('max', ['2', '5'])]
)
def test_best_is_kept_beside_the_newest(tmp_path, best, kept):
  saver = checkpoint.Checkpointer(str(tmp_path), CONFIG, keep=1, best=best)
  for step, value in ((1, 0.5), (2, 0.9), (3, 0.1), (4, None), (5, 0.3)):
    state = checkpoint.Checkpoint(state=make(float(step)), iterator={})
    saver.save(step, state, value)
  saver.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == kept


def test_length_of_the_run_may_change(tmp_path):
  save(tmp_path, 3)
  assert restore(tmp_path, CONFIG | {'steps': 20}).seconds == 1.5


def test_part_of_a_state_can_start_another_run(tmp_path):
  save(tmp_path, 3)
  part = {'ema': jax.eval_shape(lambda: make(0.0).ema)}
  found = checkpoint.restore_part(str(tmp_path), part)
  np.testing.assert_array_equal(found['ema']['kernel'], 3)
  assert list(found) == ['ema']


def test_part_of_a_missing_checkpoint_is_an_error(tmp_path):
  for folder in (tmp_path, tmp_path / 'absent'):
    with pytest.raises(FileNotFoundError, match='checkpoint'):
      checkpoint.restore_part(str(folder), {})


def test_sigterm_is_noticed_and_given_back(tmp_path):
  before = signal.getsignal(signal.SIGTERM)
  saver = checkpoint.Checkpointer(str(tmp_path), CONFIG)
  saver.catch_sigterm()
  assert not saver.preempted(1)
  os.kill(os.getpid(), signal.SIGTERM)
  assert saver.preempted(2)
  saver.close()
  assert signal.getsignal(signal.SIGTERM) is before


def test_bad_options_are_refused(tmp_path):
  with pytest.raises(ValueError, match='save_every_minutes=0'):
    checkpoint.Checkpointer(str(tmp_path), {}, save_every_minutes=0)
  with pytest.raises(ValueError, match="'top': expected one of .*'max'"):
    checkpoint.Checkpointer(str(tmp_path), {}, best='top')
  with pytest.raises(ValueError, match='plain JSON'):
    checkpoint.Checkpointer(str(tmp_path), {'x': object()})
