r"""Makes a talking video from one portrait and one speech file.

  asymtalker generate --bundle=tiny --image=me.jpg --audio=speech.wav \
      --output=video.mp4 --contact_sheet=frames.png --report=report.json

The video has round(25 x seconds) frames and the sound of the audio file. Label
synthetic media as such, and use portraits and voices with consent only.
"""

from collections.abc import Sequence
import importlib.metadata
import json
import os
import platform
import resource
import time

from absl import flags
import numpy as np
import tqdm

FLAGS = flags.FLAGS
_SHEET_FRAMES = 24


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb."""
  text = lambda name, default, doc: flags.DEFINE_string(
      name, default, doc, flag_values=values
  )
  text('bundle', 'tiny', 'a bundled model by name, or the folder of a bundle')
  text('image', None, 'portrait: PNG, JPEG, WebP, ...; required')
  text('audio', None, 'speech: WAV, FLAC, MP3, M4A, a video, ...; required')
  text('output', None, 'video to write, NAME.mp4; required')
  text('report', None, 'JSON file for speed, memory and versions')
  text('contact_sheet', None, 'PNG file for evenly spread frames')
  flags.DEFINE_integer(
      'seed', 0, 'of the noise; the same seed gives the same video',
      lower_bound=0, flag_values=values,
  )
  flags.DEFINE_integer(
      'steps', None, "denoising steps per chunk; by default the bundle's own",
      lower_bound=1, upper_bound=1000, flag_values=values,
  )
  flags.DEFINE_float(
      'color_correction', 0.0, 'strength of the colour transfer to the'
      ' portrait, 0 to 1', lower_bound=0.0, upper_bound=1.0,
      flag_values=values,
  )


def main(argv: Sequence[str]) -> None:
  """Checks everything, compiles, generates, reports.

  Raises:
    ValueError, OSError: bad flags or files; nothing is left half-written.
  """
  began = time.perf_counter()
  _check_flags(argv)
  # Imported after the flags are known to be right: these take seconds.
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax import bundle as bundle_lib
  from asymtalker_jax.cli import compilation_cache
  from asymtalker_jax.generate import long_video
  from asymtalker_jax.generate import media
  from asymtalker_jax.generate import portrait
  from asymtalker_jax.inputs import audio

  compilation_cache.enable()
  recording = audio.read_recording(FLAGS.audio)
  bundle = bundle_lib.load(FLAGS.bundle)
  plan, sampler = bundle.networks.chunk, bundle.config['sampler']
  image = portrait.load_portrait(FLAGS.image, plan.height, plan.width)
  timesteps = (
      long_video.even_timesteps(FLAGS.steps)
      if FLAGS.steps
      else sampler['timesteps']
  )
  generator = long_video.LongVideo(
      bundle.networks,
      bundle.params,
      long_video.few_step(timesteps, sampler['shift']),
      color_correction=FLAGS.color_correction,
  )
  writer = media.VideoWriter(
      FLAGS.output, plan.height, plan.width, plan.fps,
      sound=audio.open_blocks(FLAGS.audio),
  )
  with media.BackgroundWriter(writer) as output:
    compiling = time.perf_counter()
    identity, state = generator.start(image[None], FLAGS.seed)
    generator.compile(identity, state)
    started = time.perf_counter()
    speech = generator.prepare(recording.waveform, recording.frames)
    chunks = generator.run(identity, speech, state)
    first_frame_s, sheet = _write(chunks, speech, output, plan.fps, started)
  ended = time.perf_counter()
  report = {
      'frames': speech.frames,
      'fps': plan.fps,
      'audio_seconds': recording.seconds,
      'chunks': speech.chunks,
      'wall_s': round(ended - began, 3),
      'compile_s': round(started - compiling, 3),
      'frames_per_s': round(speech.frames / (ended - started), 3),
      'first_frame_s': round(first_frame_s, 3),
      'peak_rss_mb': round(_peak_rss_mb(), 1),
      'bundle': FLAGS.bundle,
      'seed': FLAGS.seed,
      'versions': _versions(),
  }
  if FLAGS.contact_sheet:
    media.contact_sheet(np.stack(sheet), FLAGS.contact_sheet)
  if FLAGS.report:
    _write_json(FLAGS.report, report)
  print(
      f'{FLAGS.output}: {report["frames"]} frames,'
      f' {report["frames"] / plan.fps:.2f} s;'
      f' {report["frames_per_s"]:.1f} frames/s, first frame after'
      f' {report["first_frame_s"]:.2f} s, peak memory'
      f' {report["peak_rss_mb"]:.0f} MB'
  )


def _write(chunks, speech, output, fps: int, started: float):
  """Streams the chunks to the encoder.

  Returns:
    Seconds from `started` to the first frames, and the contact sheet's frames.
  """
  every = max(1, -(-speech.frames // _SHEET_FRAMES))
  first_frame_s, done, sheet = None, 0, []
  with tqdm.tqdm(
      total=speech.frames, unit='frame', desc=f'generating at {fps} fps',
      mininterval=0.2,
  ) as bar:
    for frames, _ in chunks:
      if first_frame_s is None:
        first_frame_s = time.perf_counter() - started
      output.write(frames[0])
      wanted = range(-done % every, len(frames[0]), every)
      sheet += [frames[0][i].copy() for i in wanted]
      done += len(frames[0])
      bar.update(len(frames[0]))
  return first_frame_s, sheet


def _check_flags(argv: Sequence[str]) -> None:
  """Everything about the command line that needs no file to be read."""
  if argv[1:]:
    raise ValueError(f'unexpected word {argv[1]!r}; expected flags only')
  for name in ('image', 'audio', 'output'):
    if not FLAGS[name].value:
      raise ValueError(f'--{name} is missing; see asymtalker generate --help')
  for name in ('output', 'report', 'contact_sheet'):
    path = FLAGS[name].value
    if not path:
      continue
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
      raise FileNotFoundError(
          f'--{name}={path}: there is no folder {folder}; expected one that'
          ' exists'
      )
    if os.path.isdir(path):
      raise ValueError(f'--{name}={path}: is a folder; expected a file name')
    if not os.access(folder, os.W_OK):
      raise PermissionError(f'--{name}={path}: the folder is not writable')


def _write_json(path: str, values: dict) -> None:
  temporary = f'{path}.{os.getpid()}.part'
  with open(temporary, 'w', encoding='utf-8') as file:
    json.dump(values, file, indent=2)
    file.write('\n')
  os.replace(temporary, path)


def _peak_rss_mb() -> float:
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (1 << 20 if platform.system() == 'Darwin' else 1 << 10)


def _versions() -> dict[str, str]:
  packages = ('asymtalker_jax', 'jax', 'jaxlib', 'flax', 'numpy', 'av')
  versions = {'python': platform.python_version()}
  for name in packages:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  return versions
