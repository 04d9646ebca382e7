"""The words of the method as dataclasses: shapes and units, no computation.

Axes: B batch, K chunks, F video frames, T latent frames, H W height and width,
C latent channels, L audio layers, A audio channels.
"""

import dataclasses
from typing import Any, Callable

import jax
import numpy as np

Array = jax.Array | np.ndarray
# Types that timesteps and noise levels are rounded to, see flow/samplers.
ROUNDINGS = ('float32', 'bfloat16')
# velocity(x [B, T, H, W, C], timestep [B] in [0, 1000], conditioning) -> v of
# the same shape as x.
Velocity = Callable[[Array, Array, 'Conditioning'], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkPlan:
  """Geometry of a chunk: how video frames and latent frames tile time.

  Attributes:
    frames: F, video frames that the network denoises at once; 1 + n * stride.
    height: pixels.
    width: pixels.
    temporal_stride: s_t, video frames per latent frame after the first.
    spatial_stride: s_h = s_w, pixels per latent cell.
    latent_channels: C.
    continuity_slots: m, leading latent frames taken from the previous chunk.
    fps: video frames per second.
  """

  frames: int
  height: int
  width: int
  temporal_stride: int
  spatial_stride: int
  latent_channels: int
  continuity_slots: int = 2
  fps: int = 25

  @property
  def latent_frames(self) -> int:
    """T."""
    return (self.frames - 1) // self.temporal_stride + 1

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(T, H, W, C) of one chunk."""
    return (
        self.latent_frames,
        self.height // self.spatial_stride,
        self.width // self.spatial_stride,
        self.latent_channels,
    )

  @property
  def continuity_frames(self) -> int:
    """Video frames behind the continuity slots, (m - 1) s_t + 1."""
    return (self.continuity_slots - 1) * self.temporal_stride + 1

  @property
  def new_frames(self) -> int:
    """Video frames that each chunk adds to the video."""
    return self.frames - self.continuity_frames


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditioning:
  """What the network sees beside the noisy latents.

  Attributes:
    reference: [B, T, H, W, C] reference latents (temporal reference encoding).
    audio: [B, F, 5, L, A] audio features, one 5-frame window per video frame;
      zeros are the null audio of guidance.
    continuity: [B, T, H, W, C] clean latents; only slots with mask 1 are read.
    mask: [B, T] 1 where a slot is held clean at `continuity`, else 0.
  """

  reference: Array
  audio: Array
  continuity: Array
  mask: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherBatch:
  """Ground-truth path: one window per example.

  Attributes:
    latents: [B, T, H, W, C] encoded window; its first slots are the
      ground-truth continuity (the VAE is causal).
    reference: [B, T, H, W, C] reference latents of a frame outside the window.
    audio: [B, F, 5, L, A] audio windows of the same frames.
  """

  latents: Array
  reference: Array
  audio: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentBatch:
  """Self-rollout path: K consecutive windows of one clip per example.

  Attributes:
    latents: [B, K, T, H, W, C] encoded ground-truth windows g_j, read by the
      teacher's view and the regression term only.
    reference: [B, T, H, W, C] reference latents of a frame outside all windows.
    audio: [B, K, F, 5, L, A] audio windows of each chunk.
  """

  latents: Array
  reference: Array
  audio: Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
  """One decoded example of a dataset.

  Attributes:
    frames: [N, H, W, 3] uint8 RGB at 25 fps.
    waveform: [S] float32 in [-1, 1], mono, 16 kHz; S = 640 N.
    identity: integer that is equal for clips of the same person.
    tracks: name -> [N] float32 ground truth per frame, may be empty.
  """

  frames: np.ndarray
  waveform: np.ndarray
  identity: int
  tracks: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


Params = dict[str, Any]
