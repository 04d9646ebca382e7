"""Lines, samples and stops of the metric writer."""

import json

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from asymtalker_jax.train import metrics
from asymtalker_jax.train import plots


def write(folder, start=0, steps=()):
  writer = metrics.MetricWriter(str(folder), start)
  for step in steps:
    writer.push(step, {'loss': jnp.array(float(step))})
    if step % 2 == 0:
      writer.log(step, {'time/step_s': 0.5})
  writer.flush()
  writer.close()


def test_logged_lines_hold_the_mean_since_the_last(tmp_path):
  write(tmp_path, steps=range(1, 5))
  assert metrics.read(str(tmp_path)) == [
      {'step': 2, 'loss': 1.5, 'time/step_s': 0.5},
      {'step': 4, 'loss': 3.5, 'time/step_s': 0.5},
  ]
  assert list((tmp_path / 'tensorboard').glob('events*'))


def test_resuming_removes_the_lines_after_the_checkpoint(tmp_path):
  write(tmp_path, steps=range(1, 7))
  with open(tmp_path / metrics.FILE, 'a') as f:
    f.write('{"step": 8, "lo')  # killed while writing
  write(tmp_path, start=2, steps=range(3, 5))
  assert [line['step'] for line in metrics.read(str(tmp_path))] == [2, 4]


def test_metric_missing_at_some_steps_is_averaged_where_it_is(tmp_path):
  writer = metrics.MetricWriter(str(tmp_path))
  writer.push(1, {'critic': 1.0})
  writer.push(2, {'critic': 3.0, 'generator': 5.0})
  writer.log(2, {})
  writer.close()
  assert metrics.read(str(tmp_path)) == [
      {'step': 2, 'critic': 2.0, 'generator': 5.0}
  ]


def test_value_that_is_not_finite_is_raised_with_its_step(tmp_path):
  writer = metrics.MetricWriter(str(tmp_path))
  writer.push(1, {'loss': jnp.array(1.0)})
  writer.push(2, {'loss': jnp.array(jnp.inf), 'other': jnp.array(0.0)})
  with pytest.raises(FloatingPointError, match='steps 1..2: loss=inf;'):
    writer.flush()
  writer.close()


def test_examples_of_the_steps_that_end_a_run_are_written_down(tmp_path):
  writer = metrics.MetricWriter(str(tmp_path))
  for step, loss in enumerate((1.0, 2.0, np.nan), 1):
    batches = [
        dict(program=p, examples=np.array([step, 10 * step])) for p in 'ab'
    ]
    writer.push(step, {'loss': jnp.array(loss)}, batches)
  with pytest.raises(FloatingPointError, match='steps 2..3.*not_finite_proc'):
    writer.flush()
  writer.close()
  found = json.loads((tmp_path / 'not_finite_process0.json').read_text())
  assert found['step'] == 3 and found['values'] == {'loss': 'nan'}
  assert found['batches'] == [
      dict(step=step, program=p, examples=[step, 10 * step])
      for step in (2, 3) for p in 'ab'
  ]


def test_range_of_steps_is_named():
  metrics.stop_if_not_finite({'loss': 1.0}, 9)
  with pytest.raises(FloatingPointError, match='steps 5..9: a=nan, b=inf'):
    metrics.stop_if_not_finite({'b': np.inf, 'a': np.nan, 'c': 0.0}, 9, 5)


def test_video_is_written_as_png(tmp_path):
  writer = metrics.MetricWriter(str(tmp_path))
  writer.video(3, 'a/b', np.ones((9, 4, 4, 3), np.float32), columns=2)
  writer.close()
  image = np.asarray(Image.open(tmp_path / 'samples' / 'a_b_0000003.png'))
  assert image.shape == (4 * 4, 2 * 4, 3) and image.min() == 255


def test_curves_are_drawn_from_the_lines(tmp_path):
  write(tmp_path, steps=range(1, 41))
  with Image.open(plots.plot_curves(str(tmp_path))) as image:
    assert image.width > 100
  with pytest.raises(ValueError, match="'lost'.*found.*'loss'"):
    plots.plot_curves(str(tmp_path), ['lost'])
  with pytest.raises(FileNotFoundError):
    plots.plot_curves(str(tmp_path / 'absent'))


def test_drift_is_drawn_over_chunks(tmp_path):
  writer = metrics.MetricWriter(str(tmp_path))
  for step in range(1, 12):
    writer.scalars(step, {f'drift/{k}': 0.1 * k / step for k in range(4)})
  writer.close()
  with Image.open(plots.plot_rollout_drift(str(tmp_path), 'drift/')) as image:
    assert image.width > 100
  with pytest.raises(ValueError, match='other/0'):
    plots.plot_rollout_drift(str(tmp_path), 'other/')


def test_running_mean_has_no_delay_at_the_start():
  np.testing.assert_allclose(plots.smooth(np.arange(5.0)), np.arange(5.0))
  np.testing.assert_allclose(plots.smooth(np.full(100, 2.0)), 2.0)
