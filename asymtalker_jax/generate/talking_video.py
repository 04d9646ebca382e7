"""The whole job: portraits and one speech file to video files.

All identities run as one batch through the same compiled program; each has a
video of its own. Frames go to the encoders chunk by chunk. What grows with the
speech is, offline, its waveform (64 kB a second, twice); streaming, nothing.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
import time
from typing import Any

import numpy as np
import tqdm

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax.generate import long_video
from asymtalker_jax.generate import media
from asymtalker_jax.generate import portrait
from asymtalker_jax.generate import process
from asymtalker_jax.inputs import audio

SHEET_FRAMES = 24  # of a video that are kept for a contact sheet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What to make.

  Attributes:
    bundle: name or folder.
    images: portraits, one per identity.
    audio: speech that drives all of them.
    outputs: video files, one per portrait (`names`).
    seed: of the noise.
    steps: per chunk; None for the bundle's own.
    color_correction: 0 to 1; None for the bundle's own.
    carry: between chunks, of
      `sampler_values.CARRIES`; None for the bundle's own.
    streaming: hear the speech through the ring buffer instead of as a whole.
  """

  bundle: str
  images: Sequence[str]
  audio: str
  outputs: Sequence[str]
  seed: int = 0
  steps: int | None = None
  color_correction: float | None = None
  carry: str | None = None
  streaming: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What was made.

  Attributes:
    report: frames, times, memory and versions, as plain values.
    sheets: per identity up to SHEET_FRAMES frames [n, H, W, 3] uint8.
  """

  report: dict[str, Any]
  sheets: list[np.ndarray]


def names(output: str, images: Sequence[str]) -> list[str]:
  """File of each identity: `output`, with several NAME_PORTRAIT.mp4.

  Raises:
    ValueError: not an MP4 file, or portraits whose videos would have the same
      name.
  """
  root, suffix = os.path.splitext(output)
  if suffix != '.mp4':
    raise ValueError(f'{output}: expected a name that ends in .mp4')
  if len(images) == 1:
    return [output]
  stems = [os.path.splitext(os.path.basename(image))[0] for image in images]
  twice = sorted({stem for stem in stems if stems.count(stem) > 1})
  if twice:
    raise ValueError(
        f'several portraits are called {twice[0]!r}; expected different file'
        ' names, the videos are named after them'
    )
  return [f'{root}_{stem}{suffix}' for stem in stems]


def make(request: Request) -> Result:
  """Checks everything, compiles, generates.

  Raises:
    ValueError, OSError: bad values or files; nothing is left half-written.
  """
  began = time.perf_counter()
  speech_of, seconds = _open_speech(request)
  bundle = bundle_lib.load(request.bundle)
  plan = bundle.networks.chunk
  images = np.stack([
      portrait.load_portrait(image, plan.height, plan.width)
      for image in request.images
  ])
  generator = _generator(bundle, request)
  with contextlib.ExitStack() as stack:
    writers = [
        stack.enter_context(media.BackgroundWriter(media.VideoWriter(
            output, plan.height, plan.width, plan.fps,
            sound=audio.open_blocks(request.audio),
        )))
        for output in request.outputs
    ]
    compiling = time.perf_counter()
    identity, state = generator.start(images, request.seed)
    speech = speech_of(generator, round(plan.fps * seconds))
    generator.compile(identity, speech, state)
    started = time.perf_counter()
    chunks = generator.run(identity, speech, state)
    first_frame_s, sheets = _write(chunks, speech, writers, plan.fps, started)
  ended = time.perf_counter()
  report = {
      'frames': speech.frames,
      'fps': plan.fps,
      'audio_seconds': seconds,
      'chunks': speech.chunks,
      'identities': len(images),
      'wall_s': round(ended - began, 3),
      'compile_s': round(started - compiling, 3),
      'frames_per_s': round(speech.frames / (ended - started), 3),
      'first_frame_s': round(first_frame_s, 3),
      'peak_rss_mb': round(process.peak_mb(), 1),
      'bundle': request.bundle,
      'seed': request.seed,
      'versions': process.versions(),
  }
  return Result(report=report, sheets=sheets)


def _generator(
    bundle: bundle_lib.Bundle, request: Request
) -> long_video.LongVideo:
  """The bundle's student, sampled as it asks for unless the request does."""
  sampler = dict(bundle.config['sampler'])
  if request.color_correction is not None:
    sampler['color_correction'] = request.color_correction
  if request.carry is not None:
    sampler['continuity_carry'] = request.carry
  return long_video.LongVideo(
      bundle.networks, bundle.params,
      long_video.student_sampler(sampler, request.steps),
      carry=sampler['continuity_carry'],
      color_correction=sampler['color_correction'],
  )


def _open_speech(request: Request):
  """(generator, frames) -> speech of the run, and seconds; reads the file to
  its end, so that a damaged one is known before anything is compiled."""
  if request.streaming:
    seconds = audio.measure_seconds(request.audio)
    return lambda generator, frames: generator.stream(
        audio.stream_waveform(request.audio), frames
    ), seconds
  recording = audio.read_recording(request.audio)
  return lambda generator, frames: generator.prepare(
      recording.waveform, frames
  ), recording.seconds


def _write(chunks, speech, writers, fps: int, started: float):
  """Streams the chunks to the encoders.

  Returns:
    Seconds from `started` to the first frames, and frames per identity for a
    contact sheet.
  """
  every = max(1, -(-speech.frames // SHEET_FRAMES))
  first_frame_s, done = None, 0
  sheets = [[] for _ in writers]
  with tqdm.tqdm(
      total=speech.frames, unit='frame', desc=f'generating at {fps} fps',
      mininterval=0.2,
  ) as bar:
    for frames, _ in chunks:
      if first_frame_s is None:
        first_frame_s = time.perf_counter() - started
      count = frames.shape[1]
      for video, writer, sheet in zip(frames, writers, sheets, strict=True):
        writer.write(video)
        sheet += [video[i].copy() for i in range(-done % every, count, every)]
      done += count
      bar.update(count)
  return first_frame_s, [np.stack(sheet) for sheet in sheets]
