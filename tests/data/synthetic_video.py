"""Tiny videos with known answers: a red square is the face."""

import fractions

import av
import cv2
import numpy as np

from data.videos import clip as clip_lib

HEIGHT, WIDTH = 96, 128
RED = (230, 30, 30)
RATE_HZ = 48000


def picture(level=90, face=(52, 36, 24), others=()):
  """[96, 128, 3] uint8: grey with squares (left, top, side)."""
  rgb = np.full((HEIGHT, WIDTH, 3), level, np.uint8)
  for left, top, side in [face, *others] if face else others:
    rgb[top:top + side, left:left + side] = RED
  return rgb


def find_red(rgb):
  """The squares, as `portrait.find_faces` gives faces."""
  low, high = np.array([150, 0, 0]), np.array([255, 90, 90])
  _, _, stats, _ = cv2.connectedComponentsWithStats(
      cv2.inRange(rgb, low, high))
  return [(True, tuple(int(v) for v in row[:3])) for row in stats[1:]
          if row[4] > 50]


def hum(seconds):
  """[S] float32 at 48 kHz, quiet, so that a click stands out."""
  time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
  return (0.02 * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


def write(path, pictures, sound=None, fps=25, video_starts_s=0.0,
          sound_starts_s=0.0):
  """A file with frames at 1 / fps and a mono sound at 48 kHz.

  Args:
    path: the ending decides on the container.
    pictures: of [H, W, 3] uint8.
    sound: [S] float32, or None for no stream of sound.
    fps: frames per second, a Fraction where it is no integer.
    video_starts_s: time stamp of the first frame.
    sound_starts_s: time stamp of the first sample.
  """
  fps = fractions.Fraction(fps)
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    video = container.add_stream('libx264', rate=fps, options={'crf': '8'})
    video.height, video.width = pictures[0].shape[:2]
    video.pix_fmt = 'yuv420p'
    video.codec_context.time_base = fractions.Fraction(1, 90000)
    if sound is not None:
      stream = container.add_stream('aac', rate=RATE_HZ, layout='mono')
      for start in range(0, len(sound), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[None, start:start + 1024]), 'fltp',
            'mono')
        frame.sample_rate = RATE_HZ
        frame.pts = start + round(sound_starts_s * RATE_HZ)
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        container.mux(stream.encode(frame))
      container.mux(stream.encode(None))
    for index, rgb in enumerate(pictures):
      frame = av.VideoFrame.from_ndarray(rgb, 'rgb24')
      frame.pts = round((index / fps + video_starts_s) * 90000)
      frame.time_base = fractions.Fraction(1, 90000)
      container.mux(video.encode(frame))
    container.mux(video.encode(None))
  return path


def clips_of(path, frames, size=64):
  """(start, frames, waveform) of each clip, and what was dropped."""
  plans, dropped = clip_lib.plan_clips(
      clip_lib.survey(path, find_red), frames, size)
  clips = clip_lib.cut_clips(path, plans, frames, size)
  return [(p.start, f, w) for p, f, w in clips], dict(dropped)
