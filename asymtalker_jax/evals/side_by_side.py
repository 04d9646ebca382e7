"""Several earlier runs beside each other: one drift page, one paper table."""

from collections.abc import Sequence
import itertools
import json
import pathlib
from typing import Any

import numpy as np

from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import observation
from asymtalker_jax.evals import page
from asymtalker_jax.evals import paper_table
from asymtalker_jax.evals import protocol
from asymtalker_jax.evals import report
from asymtalker_jax.inputs import video


def _read(folder: pathlib.Path) -> dict:
  """metrics.json of a run.

  Raises:
    FileNotFoundError: no such run.
    ValueError: not such a file.
  """
  path = folder / 'metrics.json'
  if not path.is_file():
    raise FileNotFoundError(f'{path}: expected the folder of an earlier run')
  try:
    values = json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise ValueError(f'{path}: not JSON: {error}') from error
  if not isinstance(values, dict):
    raise ValueError(f'{path}: expected what `asymtalker evaluate` writes')
  return values


def _thumbnails(path: pathlib.Path) -> np.ndarray:
  """[n, h, w, 3] uint8, a frame every THUMBNAIL_S seconds of a video."""
  frames = video.stream_frames(path, video.FPS)
  every = long_run.THUMBNAIL_FRAMES
  shown = itertools.islice(frames, 0, None, every)
  return np.stack([observation.thumbnail(frame) for frame in shown])


def paper_rows(name: str, metrics: dict) -> list[dict]:
  """Rows of the systems of a run; ground truth and VAE have none."""
  return [
      paper_table.measured(
          f'{name} {system}'.strip(), result['figures'], result.get('protocol')
      )
      for system, result in metrics.get('systems', {}).items()
      if system not in (protocol.TRUTH, 'vae')
  ]


def _long_videos(
    name: str, folder: pathlib.Path, metrics: dict
) -> dict[str, page.Run]:
  """Those of a run, by the names they are shown under.

  Raises:
    FileNotFoundError: a video is not there any more.
  """
  runs = {}
  results = metrics['long']['videos'] if 'long' in metrics else []
  for result in results:
    path = folder / result['video']
    if not path.is_file():
      raise FileNotFoundError(f'{path}: no such video')
    many = f', person {result["person"]}' if len(results) > 1 else ''
    runs[name + many] = page.Run(
        folder=folder, result=result, thumbnails=_thumbnails(path)
    )
  return runs


def _tested_on(metrics: dict) -> dict[str, Any]:
  """What figures of a run depend on beside its systems."""
  truth = metrics.get('systems', {}).get(protocol.TRUTH, {})
  talks = metrics.get('long', {}).get('videos', [])
  flags = metrics.get('flags', {})
  return {
      'data': pathlib.Path(flags.get('data', '')).name,
      'split': flags.get('split'),
      'window_s': flags.get('window_s') if talks else None,
      'clips': sorted(row['name'] for row in truth.get('clips', [])),
      # Their names change with portrait and speech.
      'long videos': sorted(pathlib.Path(r['video']).stem for r in talks),
  }


def _differences(runs: dict[str, dict]) -> list[str]:
  """Lines that name what runs do not have in common."""
  tested = {name: _tested_on(metrics) for name, metrics in runs.items()}
  lines = []
  for key in ('data', 'split', 'window_s', 'clips', 'long videos'):
    values = {name: on[key] for name, on in tested.items() if on[key]}
    if len({repr(value) for value in values.values()}) > 1:
      text = ', '.join(
          f'{len(value) if isinstance(value, list) else value} in {name}'
          for name, value in values.items()
      )
      lines.append(f'- warning: {key} are not the same: {text}')
  return ['\n'.join([*lines, ''])] if lines else []


def compare(
    folders: Sequence[str], out: str, published: str | None = None
) -> str:
  """Writes drift.html and table.md of the long videos, and the paper's table.

  Args:
    folders: of earlier runs; their names are what they are called.
    out: folder to write to.
    published: data set whose published rows stand above ours, or None for no
      such table.

  Returns:
    The tables, Markdown.

  Raises:
    FileNotFoundError: a folder without metrics.json, or without its video.
    ValueError: two runs of one name, or nothing to compare.
  """
  runs: dict[str, page.Run] = {}
  every: dict[str, dict] = {}
  rows, target = [], pathlib.Path(out)
  names = [pathlib.Path(folder).resolve().name for folder in folders]
  if len(set(names)) < len(names):
    raise ValueError(f'--compare: runs named {names}; expected different names')
  for name, folder in zip(names, map(pathlib.Path, folders)):
    metrics = _read(folder)
    every[name] = metrics
    rows += paper_rows(name, metrics)
    runs |= _long_videos(name, folder, metrics)
  texts = []
  if runs:
    page.write(target / 'drift.html', runs)
    figures = {name: run.result['figures'] for name, run in runs.items()}
    texts.append(report.table(figures, report.LONG_ROWS))
  if published:
    all_rows = paper_table.published(published) + rows
    texts.append(paper_table.write(target, all_rows))
  if not texts:
    raise ValueError(
        '--compare: no run with a long video; expected runs with --seconds, or'
        ' --published for a table'
    )
  texts += _differences(every)
  report.write_bytes(target / 'table.md', '\n'.join(texts).encode())
  return '\n'.join(texts)
