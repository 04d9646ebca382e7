"""The table of a sweep: mean and 95 % interval over seeds, by arm."""

from collections.abc import Callable, Mapping, Sequence
import json
import math
from typing import Any

import numpy as np

from asymtalker_jax.evals import drift
from asymtalker_jax.evals import report
from asymtalker_jax.evals import sweep_plan


def summarise(values: Mapping[int, float | None]) -> dict[str, Any]:
  """Mean over seeds; those without the figure are left out.

  Args:
    values: seed -> figure.

  Returns:
    {'values', 'count', 'mean', 'interval'}; not a number where there is none.
  """
  found = [value for value in values.values() if value is not None]
  return {
      'values': {str(seed): value for seed, value in values.items()},
      'count': len(found),
      'mean': float(np.mean(found)) if found else math.nan,
      'interval': drift.interval(found),
  }


def apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
  """Whether the intervals of two arms are known and do not overlap."""
  room = first['interval'] + second['interval']
  return bool(abs(first['mean'] - second['mean']) > room)


def differences(
    arms: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
  """What each further arm has more than the first one, seed by seed: what a
  seed does to both of them is taken out.

  Args:
    arms: arm -> title -> `summarise`.

  Returns:
    arm -> title -> `summarise` of the differences.
  """
  (_, first), *others = arms.items()
  less = lambda a, b: None if a is None or b is None else a - b
  return {
      arm: {
          title: summarise({
              seed: less(value, first[title]['values'].get(seed))
              for seed, value in figure['values'].items()
          })
          for title, figure in figures.items()
      }
      for arm, figures in others
  }


def collect(plan: sweep_plan.Plan) -> dict[str, Any]:
  """What the finished points of a sweep measured.

  Returns:
    'arms': arm -> title -> `summarise`, 'differences' of these, 'points': one
    row each with its commands, whether it is finished, and its cost, and
    'shared' alike.

  Raises:
    ValueError: a figure that was not measured, or a folder of another command.
  """
  arms = list(dict.fromkeys(point.arm for point in plan.points))
  found = {arm: {figure.title: {} for figure in plan.figures} for arm in arms}
  rows = []
  for point in plan.points:
    rows.append({'index': point.index, 'arm': point.arm, 'seed': point.seed})
    rows[-1] |= _progress(point.stages)
    if not rows[-1]['finished']:
      continue
    path = point.stages[-1].folder / 'metrics.json'
    metrics = json.loads(path.read_text())
    for figure in plan.figures:
      found[point.arm][figure.title][point.seed] = figure.of(metrics)
  of_arms = {
      arm: {title: summarise(values) for title, values in of_arm.items()}
      for arm, of_arm in found.items()
  }
  return {
      'sweep': plan.name,
      'figures': {f.title: f'{f.better}, {f.path}' for f in plan.figures},
      'arms': of_arms,
      'differences': differences(of_arms),
      'points': rows,
      'shared': _progress(plan.shared),
  }


def _progress(stages: Sequence[sweep_plan.Stage]) -> dict[str, Any]:
  """Commands of stages, whether all have ended, and the minutes of those that
  have."""
  costs = [stage.cost() for stage in stages]
  total = lambda key: sum(cost[key] for cost in costs if cost) / 60
  return {
      'finished': None not in costs,
      'minutes': total('wall_s'),
      'processor_minutes': total('processor_s'),
      'commands': [stage.command for stage in stages],
  }


def markdown(results: Mapping[str, Any]) -> str:
  """The tables of `collect`: a star where an arm's interval does not overlap
  with that of the first arm, and where that of a difference excludes 0."""
  arms = results['arms']
  first = next(iter(arms))
  lines = _rows(results, arms, lambda f, title: apart(f, arms[first][title]))
  done = [row for row in results['points'] if row['finished']]
  hours = sum(row['minutes'] for row in [*done, results['shared']]) / 60
  lines += [
      '',
      'Mean over seeds with 95 % interval (number of seeds); a star where it'
      ' does not overlap with that of the first arm.',
      f'{len(done)} of {len(results["points"])} points are finished, in'
      f' {hours:.2f} h with what they share.',
  ]
  pairs = [f for arm in results['differences'].values() for f in arm.values()]
  if any(found['count'] > 1 for found in pairs):
    lines += [
        '',
        f'Less {first}, seed by seed; a star where the interval excludes 0:',
        '',
    ]
    excludes = lambda found, _: abs(found['mean']) > found['interval']
    lines += _rows(results, results['differences'], excludes)
  return '\n'.join(lines) + '\n'


def _rows(
    results: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    starred: Callable[[Mapping[str, Any], str], bool],
) -> list[str]:
  """Lines of a table, an arm in each."""
  titles = list(results['figures'])
  better = [text.partition(',')[0] for text in results['figures'].values()]
  heads = [f'{title} ({side})' for title, side in zip(titles, better)]
  lines = ['| arm | ' + ' | '.join(heads) + ' |']
  lines.append('|---' * (len(titles) + 1) + '|')
  for arm, figures in arms.items():
    cells = [
        _cell(figures[title], starred(figures[title], title))
        for title in titles
    ]
    lines.append(f'| {arm} | ' + ' | '.join(cells) + ' |')
  return lines


def _cell(found: Mapping[str, Any], starred: bool) -> str:
  if not found['count']:
    return '-'
  half = found['interval']
  spread = f' +- {half:.2g}' if math.isfinite(half) else ''
  star = ' *' if starred else ''
  return f'{found["mean"]:.4g}{spread} ({found["count"]}){star}'


def panels(results: Mapping[str, Any]) -> list[dict]:
  """Panels for `report.plot_intervals`."""
  return [
      {
          'title': f'{title}, {text.partition(",")[0]} is better'
          if not text.startswith('near') else f'{title}, {text.split(",")[0]}',
          'bars': {arm: found[title] for arm, found in results['arms'].items()},
      }
      for title, text in results['figures'].items()
  ]


def write(plan: sweep_plan.Plan) -> str:
  """Writes results.json, table.md and figures.png; returns the table."""
  results = collect(plan)
  text = markdown(results)
  report.write_json(plan.folder / 'results.json', results)
  report.write_bytes(plan.folder / 'table.md', text.encode())
  report.plot_intervals(plan.folder / 'figures.png', panels(results))
  return text
