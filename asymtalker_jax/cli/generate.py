r"""Makes a talking video from a portrait and a speech file.

  asymtalker generate --bundle=tiny --image=me.jpg --audio=speech.wav \
      --output=video.mp4 --contact_sheet=frames.png --report=report.json

The video has round(25 x seconds) frames and the sound of the audio file. With
several --image, all are driven by the same speech in one run, and the videos
are video_me.mp4, video_you.mp4, ... Label synthetic media as such, and use
portraits and voices with consent only.
"""

from collections.abc import Sequence
import json
import os

from absl import flags

from asymtalker_jax import files

FLAGS = flags.FLAGS
_COLUMNS = 8  # of the contact sheet


def define_flags(values: flags.FlagValues = FLAGS) -> None:
  """Defines the flags of the verb."""
  for name, default, text in (
      ('bundle', 'tiny', 'a bundled model by name, the folder of a bundle, or'
       ' random:VARIANT for random weights'),
      ('audio', None, 'speech: WAV, FLAC, MP3, M4A, a video, ...; required'),
      ('output', None, 'video to write, NAME.mp4; required'),
      ('report', None, 'JSON file for speed, memory and versions'),
      ('contact_sheet', None, 'PNG file for evenly spread frames')):
    flags.DEFINE_string(name, default, text, flag_values=values)
  flags.DEFINE_multi_string(
      'image', None, 'portrait: PNG, JPEG, WebP, ...; required; once per'
      ' identity', flag_values=values,
  )
  flags.DEFINE_enum(
      'audio_mode', 'offline', ['offline', 'streaming'], 'offline: the whole'
      ' file is known; streaming: what a live source would have, the last 8 s',
      flag_values=values,
  )
  flags.DEFINE_integer(
      'seed', 0, 'of the noise; the same seed gives the same video',
      lower_bound=0, upper_bound=2**32 - 1, flag_values=values,
  )
  flags.DEFINE_integer(
      'steps', None, "denoising steps per chunk; by default the bundle's own",
      lower_bound=1, upper_bound=1000, flag_values=values,
  )
  flags.DEFINE_float(
      'color_correction', None, 'strength of the colour transfer to the'
      " portrait, 0 to 1; by default the bundle's own", lower_bound=0.0,
      upper_bound=1.0, flag_values=values,
  )
  flags.DEFINE_enum(
      'carry', None, ['reencode', 'latent'], 'what a chunk starts from: the'
      ' last frames of the one before, encoded again, or its last latents; by'
      " default the bundle's own", flag_values=values,
  )


def main(argv: Sequence[str]) -> None:
  """Runs the verb; raises ValueError or OSError for bad flags or files."""
  _check_flags(argv)
  # Imported after the flags are known to be right: these take seconds.
  # pylint: disable=import-outside-toplevel
  from asymtalker_jax.cli import compilation_cache
  from asymtalker_jax.generate import talking_video
  from asymtalker_jax.inputs import contact_sheet

  outputs = talking_video.names(FLAGS.output, FLAGS.image)
  _check_files(outputs)
  compilation_cache.enable()
  result = talking_video.make(talking_video.Request(
      bundle=FLAGS.bundle, images=FLAGS.image, audio=FLAGS.audio,
      outputs=outputs, seed=FLAGS.seed, steps=FLAGS.steps,
      color_correction=FLAGS.color_correction, carry=FLAGS.carry,
      streaming=FLAGS.audio_mode == 'streaming',
  ))
  report = result.report
  if FLAGS.contact_sheet:
    rows = [r for s in result.sheets for r in contact_sheet.wrap(s, _COLUMNS)]
    picture = contact_sheet.picture(rows)
    files.write(FLAGS.contact_sheet, contact_sheet.png(picture))
  if FLAGS.report:
    files.write(FLAGS.report, json.dumps(report, indent=2).encode() + b'\n')
  print(
      f'{", ".join(outputs)}: {report["frames"]} frames,'
      f' {report["frames"] / report["fps"]:.2f} s;'
      f' {report["frames_per_s"]:.1f} frames/s, first frame after'
      f' {report["first_frame_s"]:.2f} s, peak memory'
      f' {report["peak_rss_mb"]:.0f} MB'
  )


def _check_files(outputs: Sequence[str]) -> None:
  """Whether each output is a file of its own and none is an input."""
  more = [name for name in (FLAGS.report, FLAGS.contact_sheet) if name]
  inputs = {os.path.realpath(name) for name in (*FLAGS.image, FLAGS.audio)}
  taken = set()
  for name in (*outputs, *more):
    path = os.path.realpath(name)
    if path in inputs:
      raise ValueError(f'{name}: is an input; expected another name to write to')
    if path in taken:
      raise ValueError(f'{name}: would be written twice; expected two names')
    taken.add(path)


def _check_flags(argv: Sequence[str]) -> None:
  """Everything about the command line that needs no file to be read."""
  if argv[1:]:
    raise ValueError(f'unexpected word {argv[1]!r}; expected flags only')
  for name in ('image', 'audio', 'output'):
    if FLAGS[name].value in (None, '', ['']):
      raise ValueError(f'--{name} is missing; see asymtalker generate --help')
  for name in ('output', 'report', 'contact_sheet'):
    if FLAGS[name].value:
      files.check_place(FLAGS[name].value, f'--{name}=')
