"""The loop on a toy: resume, stops, errors; run as a program it is the toy."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import chex
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asymtalker_jax.inputs import loader
from asymtalker_jax.parallel import sharding
from asymtalker_jax.train import loop
from asymtalker_jax.train import metrics as metrics_lib
from asymtalker_jax.train import optimizer
from asymtalker_jax.train import state as state_lib

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = dict(
    seed=0, steps=6, max_minutes=0.0, batch_size=4, log_every=2,
    save_every_minutes=10.0, eval_every=0,
    checkpoint=dict(keep=2, best_metric='', best_mode='min'), init_from='',
    host_memory=(), profile_steps=(),
)
TX, _ = optimizer.build(dict(lr=1e-2, clip_norm=1.0))


class Noisy(grain.transforms.RandomMap):
  """Number -> vector with noise of the loader's own generator."""

  def random_map(self, element, rng):
    return {'x': (rng.normal(size=8) + element).astype(np.float32)}


def init(key):
  params = {'kernel': jax.random.normal(key, (8, 8))}
  return state_lib.TrainState.create(params, TX)


def step(state, batch, key):
  """Depends on the state, the batch and the key, all chaotically."""
  def loss(params):
    noise = jax.random.normal(key, batch['x'].shape)
    return jnp.mean((jnp.tanh(batch['x'] @ params['kernel']) - noise) ** 2)

  value, grads = jax.value_and_grad(loss)(state.params)
  updates, opt_state = TX.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return state_lib.TrainState(
      step=state.step + 1, params=params, opt_state=opt_state,
      ema=optimizer.ema_update(state.ema, params, 0.9, state.step),
  ), {'loss': value}


def run(workdir, step_fn=step, **changes):
  on_eval, pick = changes.pop('on_eval', None), changes.pop('pick', None)
  job = loop.Job(sources=changes.pop('sources', {}))
  config = CONFIG | changes
  batches = loader.batches(
      list(range(10)), Noisy(), config['batch_size'], 0, threads=1
  )
  return loop.train(
      config, str(workdir), init, step_fn, batches, on_eval=on_eval, pick=pick,
      init_args=lambda: (jax.random.key(1),), job=job,
  )


def losses(workdir):
  lines = metrics_lib.read(str(workdir))
  return {line['step']: line['loss'] for line in lines}


def test_run_in_two_pieces_is_bit_identical_to_one(tmp_path):
  whole = run(tmp_path / 'whole')
  run(tmp_path / 'pieces', steps=3)
  pieces = run(tmp_path / 'pieces')
  chex.assert_trees_all_equal(whole.state, pieces.state)
  assert pieces.step == 6 and pieces.stopped == 'steps'
  assert losses(tmp_path / 'whole')[6] == losses(tmp_path / 'pieces')[6]


def test_a_run_does_not_go_on_from_other_data(tmp_path):
  run(tmp_path, steps=2, sources={'data': 'old'})
  with pytest.raises(ValueError, match="sources.data: 'old' in .* 'new' now"):
    run(tmp_path, sources={'data': 'new'})
  assert run(tmp_path, sources={'data': 'old'}).step == 6


def evaluate(state, number, writer):
  writer.image(number, 'sample', np.zeros((8, 8, 3), np.uint8))
  return {'eval/x': 1.0}


def contents(folder):
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('changes', [
    dict(eval_every=4), dict(eval_every=3), dict(checkpoint='best'),
    dict(max_minutes=1e-6),
])
def test_a_run_that_has_ended_is_only_read(tmp_path, changes):
  if 'checkpoint' in changes:
    changes = dict(checkpoint=best())
  changes = dict(changes, on_eval=evaluate)
  first = run(tmp_path, **changes)
  before = contents(tmp_path)
  second = run(tmp_path, **changes)
  chex.assert_trees_all_equal(first.state, second.state)
  assert (second.step, second.stopped) == (first.step, first.stopped)
  assert contents(tmp_path) == before


def test_a_bundle_is_due_where_there_is_none_of_the_newest_checkpoint(tmp_path):
  config = tmp_path / 'bundle' / 'config.json'
  assert run(tmp_path, steps=3).new
  assert run(tmp_path, steps=3).new
  config.parent.mkdir()
  config.write_text('{}')
  assert not run(tmp_path, steps=3).new
  assert run(tmp_path).new
  assert run(tmp_path).new  # It is older than the checkpoint.
  config.write_text('{}')
  assert not run(tmp_path).new


def test_sigterm_saves_and_stops(tmp_path):
  def on_eval(state, number, writer):
    if number == 4:
      os.kill(os.getpid(), signal.SIGTERM)

  stopped = run(tmp_path, eval_every=2, on_eval=on_eval)
  assert (stopped.step, stopped.stopped) == (4, 'sigterm')
  resumed = run(tmp_path, eval_every=2)
  assert resumed.step == 6


def test_time_budget_counts_over_resumes(tmp_path):
  def on_eval(state, number, writer):
    time.sleep(0.3)

  budget = dict(max_minutes=0.01, steps=10**6, eval_every=1, on_eval=on_eval)
  first = run(tmp_path, **budget)
  assert first.stopped == 'time' and first.step > 0
  ends = []
  timed = run(
      tmp_path / 'timed', max_minutes=0.005, steps=10**6, eval_every=0,
      on_eval=lambda state, number, writer: ends.append(number),
  )
  assert (timed.stopped, ends) == ('time', [timed.step])
  # The budget was spent by the first piece.
  second = run(tmp_path, **budget)
  assert (second.step, second.stopped) == (first.step, 'time')


def test_value_that_is_not_finite_stops_and_is_not_saved(tmp_path):
  def bad(state, batch, key):
    state, scalars = step(state, batch, key)
    scalars['loss'] = jnp.where(state.step >= 5, jnp.nan, scalars['loss'])
    return state, scalars

  run(tmp_path, bad, steps=3)
  with pytest.raises(FloatingPointError, match='steps 4..5: loss=nan'):
    run(tmp_path, bad)
  folder = tmp_path / 'checkpoints'
  assert [p.name for p in folder.iterdir()] == ['3']
  dump = json.loads((tmp_path / 'not_finite_process0.json').read_text())
  assert [b['step'] for b in dump['batches']] == [4, 5]
  assert all(len(b['examples']) == 4 for b in dump['batches'])


def best(metric='eval/x', mode='max'):
  return dict(keep=1, best_metric=metric, best_mode=mode)


def test_best_checkpoint_stays_beside_the_newest(tmp_path):
  scores = {2: 0.5, 4: 0.9, 6: 0.1}
  run(
      tmp_path, eval_every=2, checkpoint=best(),
      on_eval=lambda state, number, writer: {'eval/x': scores[number]},
  )
  names = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert names == ['4', '6']


def test_metric_that_no_evaluation_gives_is_refused(tmp_path):
  with pytest.raises(ValueError, match="'lost': expected one of.*'eval/x'"):
    run(
        tmp_path, eval_every=2, checkpoint=best('lost'),
        on_eval=lambda state, number, writer: {'eval/x': 1.0},
    )


def still(state, batch, key):
  """A step that changes nothing."""
  del key
  state = dataclasses.replace(state, step=state.step + 1)
  return state, {'loss': 0.0 * batch['x'].sum()}


def test_a_new_run_takes_over_the_average_of_another(tmp_path):
  first = run(tmp_path / 'first')
  changes = dict(init_from=str(tmp_path / 'first'))
  second = run(tmp_path / 'second', still, steps=2, **changes)
  chex.assert_trees_all_equal(second.state.params, first.state.ema)
  chex.assert_trees_all_equal(second.state.ema, first.state.ema)
  # Its own checkpoint comes first, even when the other run is gone.
  assert run(tmp_path / 'second', init_from=str(tmp_path / 'gone')).step == 6
  with pytest.raises(FileNotFoundError, match='gone: expected a bundle, the'):
    run(tmp_path / 'third', init_from=str(tmp_path / 'gone'))


def test_a_new_run_takes_over_one_checkpoint_of_another(tmp_path):
  evaluated = {}

  def on_eval(state, number, writer):
    evaluated[number] = jax.device_get(state.ema)
    return {'eval/x': -number}  # The first is the best.

  run(tmp_path / 'first', eval_every=2, checkpoint=best(), on_eval=on_eval)
  where = tmp_path / 'first/checkpoints'
  found = run(tmp_path / 'second', still, steps=1, init_from=f'{where}/2/')
  chex.assert_trees_all_equal(jax.device_get(found.state.ema), evaluated[2])
  assert not np.array_equal(*(
      jax.tree.leaves(evaluated[step])[0] for step in (2, 6)
  ))
  with pytest.raises(FileNotFoundError, match='no complete checkpoint of step'):
    run(tmp_path / 'third', init_from=f'{where}/4')


@pytest.mark.parametrize('what', [('ema',), ('optimizer',)])
def test_state_may_wait_on_the_host(tmp_path, monkeypatch, what):
  monkeypatch.setattr(sharding, 'MIN_SIZE', 64)
  plain = run(tmp_path / 'plain')
  run(tmp_path / 'host', host_memory=what, steps=3)
  found = run(tmp_path / 'host', host_memory=what).state
  chex.assert_trees_all_equal(found, plain.state)
  kinds = {
      name: {x.sharding.memory_kind for x in jax.tree.leaves(tree)}
      for name, tree in (('params', found.params), ('opt', found.opt_state))
  }
  assert kinds['params'] == {'device'}
  assert (sharding.HOST in kinds['opt']) == (what == ('optimizer',))


def test_trace_of_some_steps_is_written(tmp_path):
  run(tmp_path, profile_steps=(3, 4))
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_saves_are_due_by_the_clock(tmp_path):
  run(tmp_path, save_every_minutes=1e-9)
  names = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert names == ['5', '6']


def test_several_programs_run_in_order_with_keys_of_their_own(tmp_path):
  def first(state, batch, key):
    return state, {'a': jax.random.uniform(key), 'x': batch['x'][0, 0]}

  def second(state, batch, key):
    state, scalars = step(state, batch, key)
    return state, {'b': jax.random.uniform(key), 'y': batch['x'][0, 0]}

  run(
      tmp_path, {'first': first, 'second': second}, log_every=1,
      pick=lambda n: ('first', 'second') if n % 2 == 0 else 'second',
  )
  lines = metrics_lib.read(str(tmp_path))
  assert ['a' in line for line in lines] == [True, False] * 3
  assert all('b' in line for line in lines)
  assert lines[0]['a'] != lines[0]['b'] and lines[0]['x'] != lines[0]['y']


def test_step_that_does_not_count_is_an_error(tmp_path):
  with pytest.raises(RuntimeError, match='state.step is 0'):
    run(tmp_path, lambda s, b, k: (s, {}))


def test_frozen_arrays_reach_the_step(tmp_path):
  def frozen_step(state, batch, key, frozen):
    state, _ = step(state, batch, key)
    return state, {'loss': frozen['teacher']}

  batches = loader.batches([1, 2], Noisy(), 4, 0, threads=0)
  loop.train(
      CONFIG, str(tmp_path), init, frozen_step, batches,
      init_args=lambda: (jax.random.key(1),),
      frozen={'teacher': jnp.array(7.0)},
  )
  assert losses(tmp_path) == {2: 7.0, 4: 7.0, 6: 7.0}


def test_evaluation_at_the_end_happens_once(tmp_path):
  seen = []

  def on_eval(state, number, writer):
    seen.append(number)
    return {'eval/x': 1.0}

  run(tmp_path, eval_every=4, on_eval=on_eval)
  run(tmp_path / 'even', eval_every=3, on_eval=on_eval)
  assert seen == [4, 6, 3, 6]


def test_bad_configs_are_refused(tmp_path):
  with pytest.raises(ValueError, match="lacks .*'steps'"):
    loop.train({}, str(tmp_path), init, step, None)
  for changes, words in (
      (dict(profile_steps=(3, 2)), r'profile_steps=\[3, 2\]: expected'),
      (dict(host_memory=('student',)), "'student'.*'ema', 'optimizer'"),
      (dict(checkpoint=best(mode='top')), "best_mode='top': expected 'min'"),
      (dict(checkpoint=dict(keep=1)), "has .'keep'.: expected .*best_mode"),
      (dict(log_every=0), 'config.log_every=0: expected at least 1'),
      (dict(steps=-5), 'config.steps=-5: expected at least 0'),
      (dict(max_minutes=-1), 'config.max_minutes=-1: expected at least 0'),
      (dict(ema=dict(decay=1.5)), 'config.ema.decay=1.5: expected .* below 1'),
      (dict(flow=dict(shift=-1)), 'config.flow.shift=-1: expected above 0'),
      (dict(distillation=dict(critic_updates=-2)), 'critic_updates=-2'),
      (dict(distillation=dict(guidance=float('nan'))), 'guidance=nan'),
  ):
    with pytest.raises(ValueError, match=words):
      run(tmp_path / 'bad', **changes)
  run(tmp_path)
  with pytest.raises(ValueError, match='batch_size: 4 in the checkpoint, 8'):
    run(tmp_path, batch_size=8)


def test_killed_at_any_moment_it_continues_bit_identically(tmp_path):
  changes = dict(steps=30, save_every_minutes=1e-9, log_every=1)
  whole = run(tmp_path / 'whole', **changes)
  killed = tmp_path / 'killed'
  for progress in (3, 15):
    child = start(killed, changes)
    wait_for_step(child, killed, progress)
    child.kill()
    child.wait()
  resumed = run(killed, **changes)
  chex.assert_trees_all_equal(whole.state, resumed.state)
  assert losses(tmp_path / 'whole') == losses(killed)


def start(workdir, changes):
  """Starts this file as a program."""
  env = dict(os.environ, PYTHONPATH=str(ROOT), JAX_PLATFORMS='cpu')
  return subprocess.Popen(
      [sys.executable, __file__, str(workdir), json.dumps(changes)], env=env,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
  )


def wait_for_step(child, workdir, number):
  """Returns when the child has written the metrics of a step."""
  path, deadline = workdir / metrics_lib.FILE, time.monotonic() + 60
  while time.monotonic() < deadline:
    assert child.poll() is None, 'the run ended before it was killed'
    text = path.read_text() if path.exists() else ''
    if any(int(n) >= number for n in re.findall(r'"step": (\d+)', text)):
      return
    time.sleep(0.01)
  raise AssertionError(f'no step {number} within 60 s')


if __name__ == '__main__':
  run(pathlib.Path(sys.argv[1]), **json.loads(sys.argv[2]))
