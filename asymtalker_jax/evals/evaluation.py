"""One evaluation from its options: figures, tables, pictures, exit code."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np

from asymtalker_jax import types
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import comparison
from asymtalker_jax.evals import gate as gate_lib
from asymtalker_jax.evals import generation
from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import page
from asymtalker_jax.evals import paper_table
from asymtalker_jax.evals import pixels
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import puppets
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.evals import report
from asymtalker_jax.evals import side_by_side
from asymtalker_jax.evals import speed
from asymtalker_jax.evals import systems as systems_lib

SHEETS = 4  # videos on the contact sheet
LONG_CLIPS = 8  # at least so many clips lend their speech to a long video
FIELD = tuple(networks.METRICS)
METRICS = ('pixels', 'puppets', *FIELD)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What the command line says; `asymtalker evaluate --help` explains."""

  data: str
  out: str
  bundle: str = 'tiny'
  split: str = 'test'
  reader: str | None = None
  roles: Sequence[str] = ('student',)
  steps: Sequence[str] = ()
  guidance: float | None = None
  videos: Sequence[str] = ()
  clips: int = 16
  seconds: float = 0.0
  window_s: float = 10.0
  seed: int = 0
  carry: str = 'reencode'
  color_correction: float = 0.0
  metrics: Sequence[str] = ()
  weights_dir: str | None = None
  part: str | None = None
  published: str | None = None

  def __post_init__(self):
    if not self.clips and not self.seconds:
      raise ValueError('--clips=0 and --seconds=0: expected one above 0')
    for name in self.roles:
      if name not in generation.ROLES:
        raise ValueError(
            f'--roles: {name!r}; expected some of {generation.ROLES}'
        )
    if not self.roles or len(set(self.roles)) < len(self.roles):
      raise ValueError(f'--roles={",".join(self.roles)}: expected each once')
    if len(self.steps) not in (0, len(self.roles)):
      raise ValueError(
          f'--steps={",".join(self.steps)}: expected one number per role of'
          f' {",".join(self.roles)}'
      )
    unknown = sorted(set(self.metrics) - set(METRICS))
    if unknown:
      raise ValueError(f'--metrics: {unknown}; expected some of {METRICS}')
    if self.published:
      paper_table.published(self.published)  # Says which there are.
    if self.videos and self.seconds:
      raise ValueError(
          '--videos and --seconds: the long video is generated; expected one'
          ' of them'
      )

  def steps_of(self, role: str) -> int | None:
    """Sampler steps of a role; None for its own.

    Raises:
      ValueError: not a number above 0.
    """
    if not self.steps:
      return None
    text = self.steps[self.roles.index(role)]
    if not text.isdigit() or not int(text):
      raise ValueError(f'--steps: {text!r}; expected a number above 0')
    return int(text)

  def guidance_of(self, role: str) -> float | None:
    """Guidance goes to the teacher where there is one."""
    if 'teacher' in self.roles and role != 'teacher':
      return None
    return self.guidance

  def take(self) -> slice | None:
    """Which cases this process generates, None for all of them and scores.

    Raises:
      ValueError: not of the form I/N with 0 <= I < N.
    """
    if not self.part:
      return None
    index, _, count = self.part.partition('/')
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
      raise ValueError(f'--part={self.part}: expected I/N, 0 <= I < N')
    return slice(int(index), None, int(count))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What a run hands back.

  Attributes:
    metrics: everything that was measured, as written to metrics.json.
    text: tables for people.
    code: of the process; 1 where a video failed or a bound is broken.
  """

  metrics: dict[str, Any]
  text: str
  code: int


class _Models:
  """The bundle under test, its roles as systems that keep their videos."""

  def __init__(self, options: Options, cases: cases_lib.Cases):
    self._options = options
    self._bundle = generation.load_bundle(options.bundle, *options.roles)
    chunk = self._bundle.networks.chunk
    self.size = (chunk.height, chunk.width)
    self.kept = {role: self._keep(role, cases) for role in options.roles}

  def _keep(self, role: str, cases: cases_lib.Cases) -> systems_lib.Kept:
    options = self._options
    settings = {
        'role': role,
        'steps': options.steps_of(role),
        'guidance': options.guidance_of(role),
        'seed': options.seed,
        'carry': options.carry,
        'color_correction': options.color_correction,
    }
    model = generation.Generation(self._bundle, **settings)
    weights = self._bundle.config.get('sha256', {})
    return systems_lib.Kept(
        model,
        pathlib.Path(options.out) / 'videos' / role,
        self.size,
        settings | {'weights': weights, 'cases': cases.fingerprint},
    )

  def vae(self) -> systems_lib.System:
    """Ground truth through the VAE."""
    return systems_lib.reconstructed(self._bundle, self.size)


def run(options: Options, gate: dict | None = None) -> Outcome:
  """Evaluates; writes metrics.json, table.md and pictures into options.out.

  Args:
    options: what to do.
    gate: values of a gate's config, or None.

  Raises:
    FileNotFoundError, ValueError: data, bundle or weights are missing.
  """
  bounds = None if gate is None else gate_lib.bounds(gate)
  cases = cases_lib.open_cases(options.data, options.split)
  if options.clips > len(cases):
    raise ValueError(
        f'--clips={options.clips}: {options.data} holds {len(cases)}'
    )
  out = pathlib.Path(options.out)
  out.mkdir(parents=True, exist_ok=True)
  make_metrics = metrics_of(options, cases)
  models = None if options.videos else _Models(options, cases)
  if options.part:
    return _generate_part(options, cases, models)
  metrics: dict[str, Any] = {'flags': dataclasses.asdict(options)}
  tables, failures = [], []
  if options.clips:
    found = _score_clips(options, cases, models, make_metrics, metrics, out)
    tables += found[0]
    failures += found[1]
  if options.seconds:
    tables.append(_score_long(options, cases, models, metrics, out))
  if options.published and options.clips:
    rows = side_by_side.paper_rows('' if options.videos else 'ours,', metrics)
    rows = paper_table.published(options.published) + rows
    tables.append(paper_table.write(out, rows))
  code = 1 if failures else 0
  if bounds is not None:
    text, passed = _check_gate(options, bounds, metrics)
    tables.append(text)
    code = code or int(not passed)
  report.write_json(out / 'metrics.json', metrics)
  report.write_bytes(out / 'table.md', '\n'.join(tables).encode())
  return Outcome(metrics=metrics, text='\n'.join(tables), code=code)


def metrics_of(
    options: Options, cases: cases_lib.Cases
) -> Callable[[], list[metric_lib.Metric]]:
  """Makes the metrics of one system; weights are loaded once.

  Raises:
    FileNotFoundError: a network's file is missing; all of them are named.
  """
  names = options.metrics or _default_metrics(cases)
  reader = None
  if 'puppets' in names:
    reader = reader_lib.load(options.reader or reader_lib.BUNDLED)
  heavy = networks.load(
      [name for name in names if name in FIELD], options.weights_dir
  )

  def make() -> list[metric_lib.Metric]:
    light = {'pixels': pixels.Pixels, 'puppets': lambda: puppets.Puppets(reader)}
    return [(light | heavy)[name]() for name in METRICS if name in names]

  return make


def _default_metrics(cases: cases_lib.Cases) -> tuple[str, ...]:
  """Of puppets those that read puppets, else those of the field."""
  for index in range(len(cases)):
    try:
      tracks = cases[index].clip.tracks
    except (ValueError, OSError):
      continue  # The protocol lists it; another case says what they are.
    return ('pixels', 'puppets') if 'mouth' in tracks else ('pixels', *FIELD)
  return ('pixels',)


def _generate_part(
    options: Options, cases: cases_lib.Cases, models: _Models | None
) -> Outcome:
  """Generates every N-th video and scores nothing.

  Raises:
    ValueError: nothing is generated in this run.
  """
  if models is None:
    raise ValueError('--part and --videos: nothing to generate')
  chosen = range(options.clips)[options.take()]
  failures = 0
  for index in chosen:
    try:
      case = cases[index]
    except (ValueError, OSError) as error:
      logging.error('%s: %s', cases.names[index], error)
      failures += 1
      continue
    for kept in models.kept.values():
      kept.make(case)
  text = (
      f'{len(chosen) - failures} of {len(chosen)} videos of part {options.part}'
      f' in {options.out}/videos'
  )
  return Outcome(metrics={}, text=text, code=int(failures > 0))


def _systems(
    options: Options, models: _Models | None, names: Sequence[str]
) -> dict[str, systems_lib.System]:
  """Systems by name.

  Raises:
    FileNotFoundError: a folder of videos without videos.
    ValueError: two folders of one name.
  """
  if models is not None:
    return {'vae': models.vae()} | dict(models.kept)
  found = {}
  for path in options.videos:
    folder = systems_lib.Folder(path)
    name = folder.path.resolve().name
    if name in found or name == protocol.TRUTH:
      raise ValueError(f'--videos: two systems named {name!r}')
    others = folder.others(names)
    if others:
      logging.warning(
          '%s: %d videos belong to no case, such as %s', path, len(others),
          others[0],
      )
    found[name] = folder
  return found


def _score_clips(
    options, cases, models, make_metrics, metrics: dict, out: pathlib.Path
) -> tuple[list[str], list[dict]]:
  """Ground truth, VAE and the systems on every clip; tables and failures."""
  systems = _systems(options, models, cases.names)
  results = protocol.run(
      systems, cases.first(options.clips), make_metrics, SHEETS
  )
  for role, kept in (models.kept if models else {}).items():
    if kept.reports:
      results[role].figures |= speed.summarise(kept.reports)
  metrics['systems'] = {name: r.as_dict() for name, r in results.items()}
  figures = {name: result.figures for name, result in results.items()}
  tables = [report.table(figures), report.protocol_lines(results)]
  if {'student', 'teacher'} <= set(figures):
    metrics['comparison'] = comparison.compare(
        figures['student'], figures['teacher']
    )
    tables.append(comparison.table(metrics['comparison']))
  shown = [n for n in results if n != 'vae' and results[n].clips]
  fewest = min(len(results[name].thumbnails) for name in shown)
  report.contact_sheet(
      out / 'frames.png',
      [results[name].thumbnails[i] for i in range(fewest) for name in shown],
  )
  panels = report.clip_panels(metrics['systems'])
  if panels:
    report.plot_lines(out / 'curves.png', panels)
  failures = [
      {'system': name} | failure
      for name, result in results.items()
      for failure in result.failures
  ]
  metrics['failures'] = failures
  if failures:
    tables.append(report.failure_lines(failures))
  return [table for table in tables if table], failures


def _score_long(options, cases, models, metrics, out: pathlib.Path) -> str:
  """One long video of the first role; its plot, frames, page and table."""
  role = options.roles[0]
  reader = reader_lib.load(options.reader or reader_lib.BUNDLED)
  count = min(max(options.clips, LONG_CLIPS), len(cases))
  clips = _readable(cases.first(count))
  task = long_run.case(clips, options.seconds)
  kept = models.kept[role]
  result, thumbnails = long_run.measure(
      kept(task), task, clips, reader, options.window_s
  )
  made = kept.reports[-1]
  result['figures'] |= {
      'memory_growth': generation.memory_growth(
          made['memory_mb'], options.seconds
      ),
      'frames_per_s': made['frames_per_s'],
  }
  result['role'] = role
  result['video'] = os.path.relpath(kept.paths(task.name)[0], out)
  metrics['long'] = result
  report.plot_lines(out / 'drift.png', report.long_panels(result['curves']), 3)
  report.contact_sheet(out / 'drift_frames.png', [thumbnails], 20)
  name = f'{role}, {options.seconds:g} s'
  shown = page.Run(folder=out, result=result, thumbnails=thumbnails)
  page.write(out / 'drift.html', {name: shown})
  return report.table({name: result['figures']}, report.LONG_ROWS)


def _readable(cases: cases_lib.Cases) -> list[types.Clip]:
  """Clips that can be read; the others are logged.

  Raises:
    ValueError: none can.
  """
  clips = []
  for index, name in enumerate(cases.names):
    try:
      clips.append(cases[index].clip)
    except (ValueError, OSError) as error:
      logging.error('%s: %s', name, error)
  if not clips:
    raise ValueError(f'none of {len(cases)} clips can be read')
  return clips


def _check_gate(options, bounds, metrics) -> tuple[str, bool]:
  """Lines of the gate, and whether all bounds are kept."""
  measured = {}
  system = options.roles[0]
  if 'systems' in metrics:
    if options.videos:
      system = next(name for name in metrics['systems'] if name != 'gt')
    measured['clips'] = metrics['systems'][system]['figures']
  if 'long' in metrics:
    measured['long'] = metrics['long']['figures']
  checks = gate_lib.check(bounds, measured)
  metrics['gate'] = [
      dataclasses.asdict(check) | {'passed': check.passed} for check in checks
  ]
  broken = [check for check in checks if not check.passed]
  verdict = f'gate on {system}: {len(checks) - len(broken)} of {len(checks)} kept'
  return '\n'.join([verdict, *map(str, checks)]) + '\n', not broken
