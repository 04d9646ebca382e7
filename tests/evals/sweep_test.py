"""Sweeps: plans, tables, and that committed ones name what exists."""

import importlib
import importlib.util
import json
import pathlib

from absl import flags
import numpy as np
from PIL import Image
import pytest

from asymtalker_jax.cli import main as cli
from asymtalker_jax.evals import report
from asymtalker_jax.evals import sweep_clock
from asymtalker_jax.evals import sweep_plan
from asymtalker_jax.evals import sweep_table

ROOT = pathlib.Path(__file__).parents[2]
SWEEPS = sorted((ROOT / 'configs/sweeps').glob('*.py'))
FEW = {
    'name': 'few',
    'seeds': (0, 1),
    'shared': (('data', 'make --out={data}'),),
    'stages': (
        ('model', 'train --data={data} --workdir={model} --seed={seed}'),
        ('evaluation', 'evaluate --bundle={model}/b --out={evaluation}'),
    ),
    'arms': (('method',), ('other', ('model', '--arm="a b"'))),
    'figures': (('error', 'lower', 'long.error'), ('size', 'near 1', 'size')),
}


def config(path, size):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(size).to_dict()


def finish(plan, errors):
  """Ends every stage, with (arm, seed) -> error of the evaluation."""
  for stage in plan.shared:
    stage.folder.mkdir(parents=True)
    stage.finish({'wall_s': 60.0, 'processor_s': 30.0}, stage.inputs())
  for point in plan.points:
    if (point.arm, point.seed) not in errors:
      continue
    for stage in point.stages:
      stage.folder.mkdir(parents=True)
      stage.finish({'wall_s': 60.0, 'processor_s': 30.0}, stage.inputs())
    metrics = {'long': {'error': errors[point.arm, point.seed]}, 'size': 1.0}
    (point.stages[-1].folder / 'metrics.json').write_text(json.dumps(metrics))


def test_points_are_arms_by_seed_with_folders_of_their_own(tmp_path):
  plan = sweep_plan.make(FEW, 'out')
  assert [p.name for p in plan.points] == [
      'method-0', 'other-0', 'method-1', 'other-1',
  ]
  assert plan.shared[0].command == 'asymtalker make --out=out/shared/data'
  assert plan.points[3].stages[0].words == (
      'train', '--data=out/shared/data', '--workdir=out/few/other-1/model',
      '--seed=1', '--arm=a b',
  )
  assert plan.points[0].stages[1].command == (
      'asymtalker evaluate --bundle=out/few/method-0/model/b'
      ' --out=out/few/method-0/evaluation'
  )


def test_points_are_chosen_by_number_or_range():
  plan = sweep_plan.make(FEW, 'out')
  index = lambda *words: [p.index for p in sweep_plan.chosen(plan, *words)]
  assert index(None, None) == [0, 1, 2, 3]
  assert index(2, None) == [2] and index(None, '1-2') == [1, 2]
  assert index(None, 'shared') == []
  for point, points in ((4, None), (-1, None), (None, '2-1'), (None, '0-4')):
    with pytest.raises(ValueError, match='has points 0 to 3'):
      sweep_plan.chosen(plan, point, points)
  with pytest.raises(ValueError, match="expected A-B, or 'shared'"):
    sweep_plan.chosen(plan, None, 'all')
  with pytest.raises(ValueError, match='expected one'):
    sweep_plan.chosen(plan, 1, '1-2')


@pytest.mark.parametrize('change, message', [
    ({'extra': 1}, 'expected exactly'),
    ({'arms': ()}, 'no arms'),
    ({'arms': (('a/b',),)}, "arm 'a/b'"),
    ({'arms': (('a',), ('a',))}, 'different names'),
    ({'arms': (('a', ('nothing', '--x=1')),)}, "changes 'nothing'"),
    ({'shared': (('model', 'make'),)}, "stage 'model'"),
    ({'stages': (('model', 'train --data={nothing}'),)}, "names 'nothing'"),
    ({'figures': (('error', 'large', 'x'),)}, "'large'; expected one of"),
])
def test_wrong_sweeps_say_what_is_expected(change, message):
  with pytest.raises(ValueError, match=message):
    sweep_plan.make(FEW | change, 'out')


def test_a_folder_of_another_command_is_not_taken_for_finished(tmp_path):
  stage = sweep_plan.make(FEW, tmp_path).shared[0]
  assert stage.cost() is None
  stage.folder.mkdir(parents=True)
  stage.finish({'wall_s': 1.0}, stage.inputs())
  assert stage.cost() == {'wall_s': 1.0}
  other = FEW | {'shared': (('data', 'make --out={data} --size=2'),)}
  with pytest.raises(ValueError, match='was made by .*expected another --out'):
    sweep_plan.make(other, tmp_path).shared[0].cost()


def test_a_folder_of_an_edited_config_is_not_taken_for_finished(tmp_path):
  values = tmp_path / 'values.py'
  text = (
      'import ml_collections\n'
      'def get_config(size):\n'
      '  steps = {"micro": 1, "tiny": 5}[size]\n'
      '  return ml_collections.ConfigDict(dict(steps=steps))\n'
  )
  values.write_text(text)
  few = FEW | {
      'shared': (('data', f'make --out={{data}} --config={values}:micro'),)
  }
  stage = sweep_plan.make(few, tmp_path).shared[0]
  inputs = stage.inputs()
  assert set(inputs) == {'values.py'} and stage.inputs() == inputs
  stage.finish({'wall_s': 1.0}, inputs)
  assert stage.cost() == {'wall_s': 1.0}
  values.write_text(text.replace('5', '6') + '# of another size\n')
  assert stage.cost() == {'wall_s': 1.0}, 'the values of micro are the same'
  values.write_text(text.replace('1', '2'))
  with pytest.raises(ValueError, match=r"other contents of \['values.py'\]"):
    stage.cost()


def test_a_stage_is_not_finished_where_what_it_used_was_made_anew(tmp_path):
  plan = sweep_plan.make(FEW, tmp_path)
  finish(plan, {('other', 1): 0.5})
  model, evaluation = plan.points[3].stages
  assert set(model.inputs()) == {'data.done.json'}
  assert 'model.done.json' in evaluation.inputs()
  assert all(stage.cost() for stage in (*plan.shared, model, evaluation))
  plan.shared[0].finish({'wall_s': 61.0, 'processor_s': 30.0}, {})
  with pytest.raises(ValueError, match=r"other contents of \['data.done.json"):
    model.cost()
  (tmp_path / 'shared/data.done.json').unlink()  # And where it will be.
  with pytest.raises(ValueError, match=r"other contents of \['data.done.json"):
    model.cost()
  assert evaluation.cost()


def test_the_bundled_reader_is_an_input_of_an_evaluation():
  stages = sweep_plan.make(FEW, 'out').points[0].stages
  assert stages[0].inputs() == {}
  assert set(stages[1].inputs()) == {'reader.json', 'reader.safetensors'}


def test_the_cost_of_a_stage_is_that_of_all_its_starts(tmp_path, monkeypatch):
  stage = sweep_plan.make(FEW, tmp_path).shared[0]
  stage.folder.mkdir(parents=True)
  stage.spend({'wall_s': 100.0, 'processor_s': 50.0})  # One that was killed.
  monkeypatch.setattr(sweep_clock, 'EVERY_S', 0.01)
  with pytest.raises(SystemExit):
    with sweep_clock.running(stage):
      before = stage.spent()
      while stage.spent() == before:  # Noted on its way, not only at its end.
        pass
      raise SystemExit(143)
  stopped = stage.spent()
  assert 100.0 < stopped['wall_s'] < 130.0
  with sweep_clock.running(stage) as spent:
    pass
  stage.finish(spent, {})
  assert stopped['wall_s'] < stage.cost()['wall_s'] < 130.0
  assert 50.0 < stage.cost()['processor_s'] < 80.0
  assert stage.spent()['wall_s'] == 0.0


def test_table_has_means_with_student_intervals(tmp_path):
  plan = sweep_plan.make(FEW, tmp_path)
  errors = {
      ('method', 0): 1.0, ('method', 1): 2.0, ('other', 0): 50.0,
      ('other', 1): 52.0,
  }
  finish(plan, errors)
  text = sweep_table.write(plan)
  found = json.loads((plan.folder / 'results.json').read_text())
  error = found['arms']['method']['error']
  # t(0.975, 1) = 12.706; the standard error of 1 and 2 is 0.5.
  np.testing.assert_allclose(error['interval'], 6.3531, rtol=1e-4)
  assert error['mean'] == 1.5 and error['values'] == {'0': 1.0, '1': 2.0}
  assert '| method | 1.5 +- 6.4 (2) | 1 +- 0 (2) |' in text
  assert '| other | 51 +- 13 (2) * |' in text
  # 49 and 50 more; the standard error of these is 0.5.
  more = found['differences']['other']['error']
  assert more['values'] == {'0': 49.0, '1': 50.0}
  np.testing.assert_allclose(more['interval'], 6.3531, rtol=1e-4)
  assert text.endswith('| other | 49.5 +- 6.4 (2) * | 0 +- 0 (2) |\n')
  # 9 stages of a minute.
  assert '4 of 4 points are finished, in 0.15 h' in text
  assert found['points'][3]['commands'][0].startswith('asymtalker train ')
  assert Image.open(plan.folder / 'figures.png').size[0] > 500


def test_table_of_an_unfinished_sweep_has_what_there_is(tmp_path):
  plan = sweep_plan.make(FEW, tmp_path)
  finish(plan, {('method', 0): None, ('other', 0): 50.0})
  text = sweep_table.write(plan)
  assert '| method | - | 1 (1) |' in text and '| other | 50 (1) |' in text
  assert '2 of 4 points' in text
  results = json.loads((plan.folder / 'results.json').read_text())
  assert results['arms']['other']['error']['interval'] is None
  assert results['differences']['other']['error']['count'] == 0
  assert 'seed by seed' not in text


def test_a_figure_that_was_not_measured_is_named(tmp_path):
  plan = sweep_plan.make(
      FEW | {'figures': (('x', 'lower', 'long.nothing'),)}, tmp_path
  )
  finish(plan, {('method', 0): 1.0})
  with pytest.raises(ValueError, match=r"no 'nothing'; expected one of \['err"):
    sweep_table.collect(plan)


def check(words):
  """Parses a command as its verb would, and runs nothing."""
  seen = []
  module = importlib.import_module(
      f'asymtalker_jax.cli.{cli.VERBS[words[0]][0]}'
  )
  original = module.main
  module.main = lambda argv: seen.append(
      flags.FLAGS.config.to_dict() if 'config' in flags.FLAGS
      and flags.FLAGS.config is not None else {}
  )
  try:
    assert cli.main(list(words)) == 0, words
  finally:
    module.main = original
  return seen[0]


@pytest.mark.parametrize('path', SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize('size', ['micro', 'tiny'])
def test_commands_of_committed_sweeps_exist(path, size, monkeypatch):
  monkeypatch.chdir(ROOT)
  plan = sweep_plan.make(config(path, size), 'out')
  assert f'sweep --config=configs/sweeps/{path.name}' in path.read_text()
  arms = dict.fromkeys(point.arm for point in plan.points)
  first = [p for p in plan.points if p.seed == plan.points[0].seed]
  assert len(first) == len(arms)
  values = {}
  for stage in plan.shared:
    check(stage.words)
  for point in first:
    configs = [check(stage.words) for stage in point.stages]
    others = [stage.words[1:] for stage in point.stages]
    values[point.arm] = (configs, [
        [w for w in words if point.name not in w] for words in others
    ])
  # No arm equals another: an override that does nothing would be one.
  arms = list(values.values())
  assert not any(arms[i] == arms[j] for j in range(len(arms)) for i in range(j))


def test_sweeps_share_data_and_models_of_equal_commands():
  for size in ('micro', 'tiny'):
    commands = {}
    for path in SWEEPS:
      for stage in sweep_plan.make(config(path, size), 'out').shared:
        assert commands.setdefault(stage.name, stage.words) == stage.words


@pytest.mark.parametrize('name', ['akd', 'student', 'generation'])
def test_a_harder_sweep_differs_in_the_reference_only(name):
  harder = ROOT / f'configs/sweeps/{name}.py'
  tre = ROOT / 'configs/sweeps/tre.py'
  plans = {
      size: sweep_plan.make(config(harder, size), 'out')
      for size in ('micro', 'micro_first_frame')
  }
  weaker = {s.name: s.words for s in plans['micro_first_frame'].shared}
  commands = {s.name: s.words for s in sweep_plan.make(
      config(tre, 'micro'), 'out').shared}
  assert weaker['latents_first_frame'] == commands['latents_first_frame']
  assert 'latents' not in weaker and 'teacher' not in weaker
  for a, b in zip(*(plan.points for plan in plans.values()), strict=True):
    assert (a.arm, a.seed) == (b.arm, b.seed)
    renamed = [
        word.replace('_first_frame', '') for word in b.stages[0].words
    ]
    assert renamed == list(a.stages[0].words)
  with pytest.raises(ValueError, match='_first_frame behind'):
    config(harder, 'large_first_frame')


@pytest.mark.parametrize('name', ['akd', 'student', 'generation'])
def test_colour_drift_of_an_arm_is_not_corrected_away(name):
  plan = sweep_plan.make(config(ROOT / f'configs/sweeps/{name}.py', 'tiny'), '')
  for point in plan.points:
    # Of a flag that is given twice the last one counts.
    *_, last = [w for w in point.stages[-1].words if 'color_correction' in w]
    _, color, strength = point.arm.rpartition('color_')
    assert last == '--color_correction=' + (strength if color else '0')


def test_ablations_of_the_paper_have_three_seeds_and_the_arms_of_the_method():
  plans = {
      path.stem: sweep_plan.make(config(path, 'micro'), 'out')
      for path in SWEEPS
  }
  assert {p.seed for p in plans['akd'].points} == {0, 1, 2}
  assert {p.arm for p in plans['tre'].points} == {
      'temporal', 'static', 'first_frame'
  }
  assert len(plans['tre'].points) == 9 and len(plans['akd'].points) == 15


@pytest.mark.parametrize('path', SWEEPS, ids=lambda path: path.stem)
def test_figures_of_committed_sweeps_are_measured(path):
  for figure in sweep_plan.make(config(path, 'micro'), 'out').figures:
    section, *_, name = figure.path.split('.')
    rows = report.LONG_ROWS if section == 'long' else report.ROWS
    assert name in rows, figure


def test_no_arm_of_akd_sees_ground_truth_through_a_regression(monkeypatch):
  monkeypatch.chdir(ROOT)
  plan = sweep_plan.make(config(ROOT / 'configs/sweeps/akd.py', 'tiny'), 'out')
  for point in plan.points[:5]:
    values = check(point.stages[0].words)
    assert values['distillation']['regression_weight'] == 0.0


def test_chunk_arm_overrides_the_common_value(monkeypatch):
  monkeypatch.chdir(ROOT)
  path = ROOT / 'configs/sweeps/student.py'
  plan = sweep_plan.make(config(path, 'tiny'), 'out')
  found = {p.arm: check(p.stages[0].words) for p in plan.points}
  assert found['method']['chunks'] == 5 and found['chunks_2']['chunks'] == 2
  assert found['steps_1']['sampler']['timesteps'] == (1000.0,)
  assert found['steps_2']['sampler']['timesteps'] == (1000.0, 500.0)
  assert found['regression_4.0']['distillation']['regression_weight'] == 4.0
