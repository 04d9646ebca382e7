"""One clip of a puppet from its seeds alone: speech, motion, frames, tracks."""

import numpy as np

from asymtalker_jax.types import Clip
from data.puppets import head
from data.puppets import motion as motion_lib
from data.puppets import speech
from data.puppets import visemes
from data.puppets.identity import sample_identity
from data.puppets.renderer import FrameState, Renderer

FPS = 25
TRACKS = ('mouth', 'mouth_width', 'tongue', 'yaw', 'pitch', 'roll', 'x', 'y',
          'blink', 'brow', 'gaze_x', 'gaze_y', 'smile')


def speech_energy(waveform: np.ndarray, frames: int) -> np.ndarray:
  """[N] slow loudness of a waveform [640 N], 0..1."""
  power = (waveform[:frames * 640].reshape(frames, 640) ** 2).mean(1)
  kernel = np.hanning(17) / np.hanning(17).sum()
  level = np.sqrt(np.convolve(np.pad(power, 8, mode='edge'), kernel, 'valid'))
  return np.clip(level / (np.quantile(level, 0.95) + 1e-6), 0, 1)


def render_tracks(renderer: Renderer, tracks: dict[str, np.ndarray],
                  body_x: np.ndarray, body_y: np.ndarray) -> np.ndarray:
  """[N, size, size, 3] uint8 frames of a puppet that follows its tracks."""
  frames = len(tracks['mouth'])
  video = np.empty((frames, renderer.size, renderer.size, 3), np.uint8)
  for i in range(frames):
    now = {name: float(values[i]) for name, values in tracks.items()}
    pose = head.Pose(yaw=np.radians(now['yaw']), pitch=np.radians(now['pitch']),
                     roll=np.radians(now['roll']), x=now['x'], y=now['y'])
    video[i] = renderer.render(FrameState(
        pose=pose, body_x=float(body_x[i]), body_y=float(body_y[i]),
        **{name: now[name] for name in (
            'blink', 'brow', 'gaze_x', 'gaze_y', 'mouth', 'mouth_width',
            'tongue', 'smile')}))
  return video


def make_clip(identity_seed: int, take: int = 0, *, split: str = 'train',
              frames: int = 176, size: int = 128) -> Clip:
  """A clip; equal arguments give equal clips.

  Args:
    identity_seed: who is seen; `sample_identity`.
    take: number of the clip among those of this puppet.
    split: 'train' or 'test'; decides which sentences may be spoken.
    frames: N video frames at 25 Hz.
    size: height and width in pixels.

  Returns:
    Clip with the tracks of TRACKS; yaw, pitch, roll in degrees, x and y in
    head units, the rest in 0..1 (brow and gaze in -1..1).
  """
  rng = np.random.default_rng([0xC119, identity_seed, take])
  utterance = speech.speak(rng, frames / FPS, split)
  mouth = visemes.mouth_tracks(utterance.phonemes, utterance.waveform, frames)
  energy = speech_energy(utterance.waveform, frames)
  motion = motion_lib.sample_motion(rng, frames, energy)
  tracks = {}
  for name in TRACKS:
    source = mouth if hasattr(mouth, name) else motion
    tracks[name] = np.asarray(getattr(source, name), np.float32)
  renderer = Renderer(sample_identity(identity_seed), size)
  video = render_tracks(renderer, tracks, motion.body_x, motion.body_y)
  return Clip(frames=video, waveform=utterance.waveform,
              identity=int(identity_seed), tracks=tracks)
