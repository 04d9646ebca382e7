"""A drift report as one HTML file: the video beside its curves.

The page needs no network and no other file: the plots are SVG, the few lines of
script that move the cursor and the video are in it, and so is the video while
it is small; a larger one is linked, relative to the page.
"""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import html
import io
import os
import pathlib

import numpy as np
from PIL import Image

from asymtalker_jax.evals import long_run
from asymtalker_jax.evals import report

COLOURS = ('#0b6bcb', '#c9372c', '#1f845a', '#8f5be8', '#a54800', '#206a83')
EMBEDDED_MB = 24.0  # larger videos are linked
THUMBNAIL_PX, THUMBNAILS = 96, 60
# Of a plot, in pixels.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 170, 62, 22, 10
_SPAN = _WIDTH - _LEFT - 12

_STYLE = '''
body{font:14px/1.45 system-ui,sans-serif;margin:1.5em;color:#172b4d;
background:#fff} h1{font-size:20px} h2{font-size:15px;margin:1.2em 0 .3em}
.runs{display:flex;flex-wrap:wrap;gap:18px} .run{max-width:340px}
video{width:320px;background:#000;display:block}
.strip{display:flex;overflow-x:auto;gap:2px;margin:.4em 0 0;max-width:320px}
.strip button{border:0;padding:0;background:none;cursor:pointer}
.strip img{height:56px;display:block}
.plots{display:flex;flex-wrap:wrap;gap:10px 26px} svg{cursor:crosshair}
.axis{stroke:#8993a4;stroke-width:1} .grid{stroke:#dfe1e6;stroke-width:1}
.cursor{stroke:#172b4d;stroke-width:1} text{font-size:11px;fill:#44546f}
table{border-collapse:collapse;margin:.6em 0} td,th{padding:2px 10px;
border-bottom:1px solid #dfe1e6;text-align:right} td:first-child,
th:first-child{text-align:left} .key{display:inline-block;width:12px;
height:3px;margin-right:5px;vertical-align:middle}
'''
_SCRIPT = '''
const videos=[...document.querySelectorAll('video')];
const plots=[...document.querySelectorAll('svg')];
const show=t=>plots.forEach(s=>{const c=s.querySelector('.cursor');
const x=+s.dataset.left+(+s.dataset.span)*Math.min(1,t/+s.dataset.end);
c.setAttribute('x1',x);c.setAttribute('x2',x);});
const seek=t=>{videos.forEach(v=>{v.currentTime=Math.min(t,v.duration||t);});
show(t);};
plots.forEach(s=>s.addEventListener('click',e=>{const b=
s.getBoundingClientRect();const x=(e.clientX-b.left)*640/b.width;
seek(Math.max(0,Math.min(1,(x-s.dataset.left)/s.dataset.span))*s.dataset.end);
}));
videos.forEach(v=>v.addEventListener('timeupdate',()=>show(v.currentTime)));
document.querySelectorAll('.strip button').forEach(b=>
b.addEventListener('click',()=>seek(+b.dataset.t)));
'''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One long video on the page.

  Attributes:
    folder: that the path of the video in `result` is relative to.
    result: of `long_run.summarise`, with 'video' and 'person'.
    thumbnails: [n, H, W, 3] uint8, one every `long_run.THUMBNAIL_S`; may be
      empty.
  """

  folder: pathlib.Path
  result: Mapping
  thumbnails: np.ndarray | Sequence = ()


def write(path: str | os.PathLike, runs: Mapping[str, Run]) -> pathlib.Path:
  """Writes the page of one or more long videos.

  Args:
    path: of the page.
    runs: by the names they are shown under.
  """
  path = pathlib.Path(path)
  names = list(runs)
  colours = {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(names)}
  blocks = [_run(name, run, colours[name], path) for name, run in runs.items()]
  metrics = list(dict.fromkeys(
      metric for run in runs.values() for metric in run.result['curves']
  ))
  plots = [
      _plot(metric, {
          name: run.result['curves'][metric]
          for name, run in runs.items()
          if metric in run.result['curves']
      }, colours)
      for metric in metrics
  ]  # pyformat: disable
  content = (
      '<!doctype html><html lang="en"><head><meta charset="utf-8">'
      f'<title>Drift</title><style>{_STYLE}</style></head><body>'
      '<h1>Drift over time</h1><p>Click a curve or a frame to see the video'
      ' there. Each point is the mean of a window; dashed: where a figure first'
      f' passed its limit.</p>{_protocol(runs)}'
      f'<div class="runs">{"".join(blocks)}</div>'
      f'{_table(runs)}<div class="plots">{"".join(plots)}</div>'
      f'<script>{_SCRIPT}</script></body></html>\n'
  )
  return report.write_bytes(path, content.encode())


def _protocol(runs: Mapping[str, Run]) -> str:
  """Windows, videos and networks of all runs, one paragraph."""
  results = [run.result for run in runs.values()]
  sizes = dict.fromkeys(f'{r["window_s"]:g}' for r in results)
  many = '1 video' if len(results) == 1 else f'{len(results)} videos'
  lines = [f'{many}, windows of {" and ".join(sizes)} s']
  for result in results:
    protocol = result.get('protocol', {})  # Earlier runs kept less of it.
    parts = protocol.get('distances', {}) | protocol.get('networks', {})
    lines += [f'{name}: {text}' for name, text in parts.items()]
  text = html.escape('. '.join(dict.fromkeys(lines)))
  return f'<p class="protocol">{text}.</p>'


def _run(name: str, run: Run, colour: str, page: pathlib.Path) -> str:
  """The video of one run with its strip of frames."""
  text = html.escape(name)
  video = run.folder / run.result['video']
  buttons = []
  every = max(1, -(-len(run.thumbnails) // THUMBNAILS))
  for index in range(0, len(run.thumbnails), every):
    at = long_run.THUMBNAIL_S * index
    buttons.append(
        f'<button data-t="{at:.2f}" title="{at:.0f} s"><img alt="{at:.0f} s"'
        f' src="{_picture(run.thumbnails[index])}"></button>'
    )
  return (
      f'<div class="run"><h2><span class="key" style="background:{colour}">'
      f'</span>{text}</h2><video controls preload="metadata"'
      f' src="{_source(video, page)}"></video>'
      f'<div class="strip">{"".join(buttons)}</div></div>'
  )


def _source(video: pathlib.Path, page: pathlib.Path) -> str:
  """The video itself, or a link to it where it is large."""
  if video.stat().st_size <= EMBEDDED_MB * 2**20:
    data = base64.b64encode(video.read_bytes()).decode()
    return f'data:video/mp4;base64,{data}'
  # Resolved: '..' behind a link is another folder than the text says.
  link = os.path.relpath(video.resolve(), page.parent.resolve())
  link = link.replace(os.sep, '/')
  return html.escape(link, quote=True)


def _picture(frame: np.ndarray) -> str:
  """A small JPEG inside a URL."""
  image = Image.fromarray(frame)
  image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
  content = io.BytesIO()
  image.save(content, format='JPEG', quality=80)
  return 'data:image/jpeg;base64,' + base64.b64encode(
      content.getvalue()
  ).decode()


def _read(curve: Mapping) -> tuple[np.ndarray, np.ndarray]:
  """Times and values; JSON has null for what is not a number."""
  values = [np.nan if v is None else v for v in curve['values']]
  return np.asarray(curve['times'], float), np.asarray(values, float)


def _pieces(
    times: np.ndarray, values: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
  """A curve without its gaps."""
  known = np.concatenate([[False], np.isfinite(values), [False]])
  ends = np.flatnonzero(known[1:] != known[:-1])
  return [
      (times[a:b], values[a:b]) for a, b in zip(ends[::2], ends[1::2])
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scale:
  """From seconds and values to pixels of a plot.

  Attributes:
    end: seconds at the right.
    low, high: values at the bottom and at the top.
  """

  end: float
  low: float
  high: float

  def across(self, seconds):
    return _LEFT + _SPAN * seconds / self.end

  def down(self, value):
    depth = _HEIGHT - _TOP - _BOTTOM
    return _TOP + depth * (self.high - value) / (self.high - self.low)


def _scale(lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> _Scale:
  """One that all lines (times, values) fit into, with some room."""
  low = min(np.nanmin(values) for _, values in lines.values())
  high = max(np.nanmax(values) for _, values in lines.values())
  room = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
  # The last window is centred half a window before the end.
  end = max(times[-1] + times[0] for times, _ in lines.values())
  return _Scale(end=end, low=low - room, high=high + room)


def _grid(scale: _Scale) -> str:
  """Lines and numbers of the axes."""
  parts = []
  for value in np.linspace(scale.low, scale.high, 5)[1:-1]:
    y = scale.down(value)
    parts.append(
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SPAN}" y1="{y:.1f}"'
        f' y2="{y:.1f}"/><text x="{_LEFT - 6}" y="{y + 4:.1f}"'
        f' text-anchor="end">{value:.3g}</text>'
    )
  for time in np.linspace(0, scale.end, 7):
    parts.append(
        f'<text x="{scale.across(time):.1f}" y="{_HEIGHT - 6}"'
        f' text-anchor="middle">{time:.0f} s</text>'
    )
  return ''.join(parts)


def _line(
    name: str, times: np.ndarray, values: np.ndarray, failed: float | None,
    colour: str, scale: _Scale,
) -> str:  # pyformat: disable
  """A curve, and where it passed its limit."""
  drawn = ''
  for seconds, heights in _pieces(times, values):
    points = [
        f'{scale.across(t):.1f},{scale.down(v):.1f}'
        for t, v in zip(seconds, heights)
    ]
    if len(points) == 1:
      points *= 2  # Which is drawn as a dot.
    drawn += (
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.8"'
        f' stroke-linecap="round" points="{" ".join(points)}">'
        f'<title>{html.escape(name)}</title></polyline>'
    )
  if failed is None:
    return drawn
  x = scale.across(failed)
  return drawn + (
      f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"'
      f' stroke="{colour}" stroke-dasharray="4 3"/>'
  )


def _plot(metric: str, curves: Mapping, colours: Mapping[str, str]) -> str:
  """One figure of all runs over time as SVG."""
  lines = {name: _read(curve) for name, curve in curves.items()}
  lines = {n: line for n, line in lines.items() if np.isfinite(line[1]).any()}
  if not lines:
    return ''
  scale = _scale(lines)
  drawn = [
      _line(
          name, *line, curves[name].get('time_to_failure_s'), colours[name],
          scale,
      )
      for name, line in lines.items()
  ]  # pyformat: disable
  title = html.escape(metric.replace('_', ' '))
  return (
      f'<div><h2>{title}</h2><svg viewBox="0 0 {_WIDTH} {_HEIGHT}"'
      f' width="{_WIDTH}" height="{_HEIGHT}" data-left="{_LEFT}"'
      f' data-span="{_SPAN}" data-end="{scale.end:.3f}">{_grid(scale)}'
      f'{"".join(drawn)}<line class="axis" x1="{_LEFT}" x2="{_LEFT + _SPAN}"'
      f' y1="{_HEIGHT - _BOTTOM}" y2="{_HEIGHT - _BOTTOM}"/>'
      f'<line class="cursor" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}"'
      f' y2="{_HEIGHT - _BOTTOM}"/></svg></div>'
  )


def _table(runs: Mapping[str, Run]) -> str:
  """Slopes with their intervals and times to failure."""
  metrics = list(dict.fromkeys(
      metric for run in runs.values() for metric in run.result['curves']
  ))
  head = ''.join(f'<th>{html.escape(name)}</th>' for name in runs)
  rows = []
  for metric in metrics:
    cells = []
    for run in runs.values():
      curve = run.result['curves'].get(metric)
      cells.append(f'<td>{"-" if curve is None else _summary(curve)}</td>')
    rows.append(
        f'<tr><td>{html.escape(metric.replace("_", " "))}</td>'
        f'{"".join(cells)}</tr>'
    )
  return (
      f'<table><tr><th>slope per minute, 95 %</th>{head}</tr>'
      f'{"".join(rows)}</table>'
  )


def _summary(curve: Mapping) -> str:
  """Slope with interval, and the time to failure."""
  half = curve['slope_interval']
  certain = half is not None and np.isfinite(half)
  interval = f' &plusmn; {half:.2g}' if certain else ''
  failed = curve.get('time_to_failure_s')
  past = '' if failed is None else f', past its limit at {failed:.0f} s'
  slope = curve['slope']
  known = slope is not None and np.isfinite(slope)
  return f'{slope:.3g}{interval}{past}' if known else f'-{past}'
