"""One evaluation from its options: figures, tables, pictures, exit code."""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import time
from typing import Any

from absl import logging
import numpy as np

from asymtalker_jax.evals import asked_for
from asymtalker_jax.evals import cases as cases_lib
from asymtalker_jax.evals import comparison
from asymtalker_jax.evals import gate as gate_lib
from asymtalker_jax.evals import long_filmed
from asymtalker_jax.evals import long_puppets
from asymtalker_jax.evals import long_section
from asymtalker_jax.evals import metric as metric_lib
from asymtalker_jax.evals import networks
from asymtalker_jax.evals import options as options_lib
from asymtalker_jax.evals import paper_table
from asymtalker_jax.evals import pixels
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import puppets
from asymtalker_jax.evals import reader as reader_lib
from asymtalker_jax.evals import report
from asymtalker_jax.evals import roles as roles_lib
from asymtalker_jax.evals import side_by_side
from asymtalker_jax.evals import speed
from asymtalker_jax.evals import systems as systems_lib
from asymtalker_jax.generate import process
from asymtalker_jax.inputs import video

SHEETS = 4  # videos on the contact sheet


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


def run(options: options_lib.Options, gate: dict | None = None) -> Outcome:
  """Evaluates; writes metrics.json, table.md and pictures into options.out.

  Args:
    options: what to do.
    gate: values of a gate's config, or None.

  Raises:
    FileNotFoundError, ValueError: data, bundle or weights are missing, or do
      not go with the options; nothing is written then.
  """
  if gate is not None and options.part:
    raise ValueError(
        '--part scores nothing; expected --gate in the run without it'
    )
  bounds = None if gate is None else gate_lib.bounds(gate)
  if bounds is not None:  # That something which it bounds will be measured.
    gate_lib.check(bounds, {section: {} for section in options.sections})
  cases = cases_lib.open_cases(options.data, options.split)
  options = _counted(options, cases)
  if options.part:
    return _make_part(options, cases)
  make_metrics = metrics_of(options, cases)
  talks = _talks(options, cases, make_metrics) if options.seconds else None
  roles = None if options.videos else roles_lib.Roles(options)
  systems = roles.systems() if roles else _folders(options, cases, talks)
  subject = _subject(options)
  metrics: dict[str, Any] = {
      'flags': dataclasses.asdict(options), 'failures': [], 'cost': {},
  }  # pyformat: disable
  pathlib.Path(options.out).mkdir(parents=True, exist_ok=True)
  tables = []
  if options.clips:
    began = time.monotonic()
    chosen = cases.first(options.clips)
    results = protocol.run(systems, chosen, make_metrics, SHEETS)
    _note_rates(results, {protocol.TRUTH: chosen} | systems)
    metrics['cases'] = {'scored': len(chosen), 'of': len(cases)}
    tables += _report_clips(results, roles, metrics, options.out)
    _note_cost(metrics, 'clips_s', began, roles)
    # Now, since long videos may take hours and come to nothing.
    report.write_json(f'{options.out}/metrics.json', metrics)
  if talks:
    began = time.monotonic()
    tables.append(talks.score(systems[subject], subject, metrics))
    _note_cost(metrics, 'long_s', began, roles)
  return _finish(options, bounds, metrics, [text for text in tables if text])


def _note_cost(
    metrics: dict, section: str, began: float, roles: roles_lib.Roles | None
) -> None:
  """Adds time by the clock and memory of a section, and the videos made so
  far: those that were there already cost nothing."""
  metrics['cost'] |= {
      section: round(time.monotonic() - began, 1),
      'peak_rss_mb': round(process.peak_mb(), 1),
      'videos_made': roles.made() if roles else 0,
  }


def _finish(
    options: options_lib.Options,
    bounds: dict[str, dict] | None,
    metrics: dict[str, Any],
    tables: list[str],
) -> Outcome:
  """Adds failures, the paper's table and the gate, and writes it all down."""
  out = pathlib.Path(options.out)
  failures = metrics['failures']
  code = 1 if failures else 0
  if failures:
    tables.append(report.failure_lines(failures))
  if options.published:
    tables.append(_write_paper_table(options, metrics, out))
  if bounds is not None:
    text, passed = _check_gate(options, bounds, metrics)
    tables.append(text)
    code = code or int(not passed)
  text = '\n'.join(tables)
  report.write_json(out / 'metrics.json', metrics)
  report.write_bytes(out / 'table.md', text.encode())
  return Outcome(metrics=metrics, text=text, code=code)


def _counted(
    options: options_lib.Options, cases: cases_lib.Cases
) -> options_lib.Options:
  """The options with a number of clips, of which there are enough."""
  count = options.clips
  if count is None:
    count = len(cases)
    if not cases_lib.is_manifest(options.data):
      count = min(count, options_lib.CLIPS)
  if count > len(cases):
    raise ValueError(f'--clips={count}: {options.data} holds {len(cases)}')
  return dataclasses.replace(options, clips=count)


def metrics_of(
    options: options_lib.Options, cases: cases_lib.Cases
) -> Callable[[], list[metric_lib.Metric]]:
  """Makes the metrics of one system; weights are loaded once.

  Raises:
    FileNotFoundError: a network's file is missing; all of them are named.
    ValueError: metrics that say nothing of this data, or not what is compared.
  """
  names = _metric_names(options, cases)
  reader = None
  if 'puppets' in names:
    reader = reader_lib.load(options.reader or reader_lib.BUNDLED)
  heavy = networks.load(
      [name for name in names if name in options_lib.FIELD],
      options.weights_dir,
  )

  def make() -> list[metric_lib.Metric]:
    light = {'pixels': pixels.Pixels, 'puppets': lambda: puppets.Puppets(reader)}
    every = light | heavy
    return [every[name]() for name in options_lib.METRICS if name in names]

  return make


def _metric_names(
    options: options_lib.Options, cases: cases_lib.Cases
) -> Sequence[str]:
  """What is asked for; by default of puppets those that read puppets, of other
  data those of the field."""
  tracks = _tracks(cases)
  names = options.metrics
  if not names and tracks is None:  # No case can be read: the protocol says so.
    names = ('pixels',)
  elif not names:
    others = ('puppets',) if 'mouth' in tracks else options_lib.FIELD
    names = ('pixels', *others)
  elif 'puppets' in names and tracks is not None and 'mouth' not in tracks:
    raise ValueError(
        f'--metrics={",".join(names)}: {options.data} has no mouth tracks;'
        f' expected some of {("pixels", *options_lib.FIELD)}'
    )
  compared = options.clips and len(options.roles) > 1 and tracks is not None
  if compared and not {'puppets', 'sync'} & set(names):
    raise ValueError(
        f'--metrics={",".join(names)}: student and teacher are compared by'
        " their lip-sync; expected 'puppets' or 'sync' among them"
    )
  return names


def _tracks(cases: cases_lib.Cases) -> dict[str, np.ndarray] | None:
  """Those of the first case that can be read; None where there is none."""
  for index in range(len(cases)):
    try:
      return cases[index].clip.tracks
    except (ValueError, OSError):
      continue  # The protocol lists it.
  return None


def _talks(options, cases, make_metrics) -> long_section.Talks:
  """The long videos that are asked for, with who watches them.

  Raises:
    FileNotFoundError, ValueError: as `long_section.Talks`, no puppet reader, or
      windows too short.
  """
  tracks = _tracks(cases)
  if tracks and 'mouth' in tracks:
    watcher = long_puppets.Puppets(
        reader_lib.load(options.reader or reader_lib.BUNDLED)
    )
  else:
    size = int(round(options.window_s * video.FPS))
    watcher = long_filmed.Filmed(make_metrics, size)
  return long_section.Talks(options, cases, watcher)


def _subject(options: options_lib.Options) -> str:
  """Name of the system that a gate and long videos are about."""
  return [*options.folders(), *options.roles][0]


def _make_part(
    options: options_lib.Options, cases: cases_lib.Cases
) -> Outcome:
  """Makes a part of the videos and scores nothing."""
  roles = roles_lib.Roles(options)
  count, failures = roles_lib.make_part(options, cases, roles)
  text = (
      f'{count - len(failures)} of {count} videos of part {options.part} in'
      f' {options.out}/videos\n'
  )
  if failures:
    text += report.failure_lines(failures)
  return Outcome(metrics={}, text=text, code=int(bool(failures)))


def _folders(
    options: options_lib.Options,
    cases: cases_lib.Cases,
    talks: long_section.Talks | None,
) -> dict[str, systems_lib.Folder]:
  """Systems of --videos by name.

  Raises:
    FileNotFoundError: a folder that lacks a long video, or all the others; what
      there is to be made is then written.
  """
  found = {}
  tasks = talks.tasks if talks else []
  clips = cases.first(options.clips)
  for name, path in options.folders().items():
    folder = found[name] = systems_lib.Folder(path)
    others = folder.others([*cases.names, *(task.name for task in tasks)])
    if others:
      logging.warning(
          '%s: %d videos belong to no case, such as %s', path, len(others),
          others[0],
      )
    asked_for.check(folder, clips, tasks, options.out)
  return found


def _note_rates(
    results: dict[str, protocol.Result], sources: dict[str, Any]
) -> None:
  """Adds what was resampled to the warnings."""
  for name, source in sources.items():
    lines = cases_lib.rate_lines(getattr(source, 'rates', {}))
    results[name].warnings += [f'{name}: {line}' for line in lines]


def _report_clips(
    results: dict[str, protocol.Result],
    roles: roles_lib.Roles | None,
    metrics: dict,
    out: str,
) -> list[str]:
  """Tables of what was measured on clips; fills metrics and writes pictures."""
  for role, kept in (roles.kept if roles else {}).items():
    if kept.reports:
      results[role].figures |= speed.summarise(kept.reports)
  metrics['systems'] = {name: r.as_dict() for name, r in results.items()}
  figures = {name: result.figures for name, result in results.items()}
  count = '{scored} of {of} cases of'.format(**metrics['cases'])
  tables = [
      report.table(figures),
      f'- {count} {metrics["flags"]["data"]}',
      report.protocol_lines(results),
  ]
  if {'student', 'teacher'} <= set(figures):
    tables.append(_compare_roles(figures, metrics))
  _write_sheet(f'{out}/frames.png', results)
  panels = report.clip_panels(metrics['systems'])
  if panels:
    report.plot_lines(f'{out}/curves.png', panels)
  metrics['failures'] = [
      {'system': name} | failure
      for name, result in results.items()
      for failure in result.failures
  ]
  return tables


def _compare_roles(figures: dict[str, dict], metrics: dict) -> str:
  """Table of the student beside its teacher."""
  try:
    found = comparison.compare(figures['student'], figures['teacher'])
  except ValueError as error:  # No video of one role had the figure.
    logging.warning('student and teacher are not compared: %s', error)
    return f'student and teacher are not compared: {error}\n'
  metrics['comparison'] = found
  return comparison.table(found)


def _write_sheet(
    path: str, results: dict[str, protocol.Result]
) -> None:
  """Frames of the first videos that all systems have, ground truth on top."""
  shown = [
      result.thumbnails for name, result in results.items()
      if name != 'vae' and result.clips
  ]
  common = [
      n for n in (shown or [{}])[0] if all(n in other for other in shown)
  ]
  if common:
    report.contact_sheet(path, [rows[n] for n in common for rows in shown])


def _write_paper_table(options, metrics: dict, out: pathlib.Path) -> str:
  """The paper's table with what was measured below."""
  rows = side_by_side.paper_rows('' if options.videos else 'ours,', metrics)
  return paper_table.write(
      out, paper_table.published(options.published) + rows
  )


def _check_gate(options, bounds, metrics) -> tuple[str, bool]:
  """Lines of the gate, and whether all bounds are kept."""
  measured = {}
  system = _subject(options)
  if 'systems' in metrics:
    measured['clips'] = metrics['systems'][system]['figures']
  if options.seconds:  # Of videos that could not be watched there are none.
    measured['long'] = metrics.get('long', {}).get('figures', {})
  checks = gate_lib.check(bounds, measured)
  metrics['gate'] = [
      dataclasses.asdict(check) | {'passed': check.passed} for check in checks
  ]
  broken = [check for check in checks if not check.passed]
  verdict = f'gate on {system}: {len(checks) - len(broken)} of {len(checks)} kept'
  return '\n'.join([verdict, *map(str, checks)]) + '\n', not broken
