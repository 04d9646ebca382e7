"""Long generation, chunk by chunk, in constant memory.

As in docs/method.md, section 6: chunk j covers the frames [new j - continuity,
new j + new) of the video; what lies before 0 or after the end of the speech is
silence. Each chunk emits its `new` last frames. Chunk 0 starts from one clean
slot, the first reference latent; later chunks start from the frames before
them. All chunks run the same compiled function: how many slots are clean is a
mask, not a shape. Speech is encoded by a function of its own, ahead of the
chunks that hear it (`speech`).
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from asymtalker_jax import sampler_values
from asymtalker_jax import temporal_reference_encoding
from asymtalker_jax import types
from asymtalker_jax.flow import path
from asymtalker_jax.flow import samplers
from asymtalker_jax.generate import color
from asymtalker_jax.generate import speech as speech_lib
from asymtalker_jax.models import variants

SAMPLES_PER_FRAME = speech_lib.SAMPLES_PER_FRAME
Speech = speech_lib.Offline | speech_lib.Streaming
# (velocity, conditioning, key) -> clean latents [B, T, H, W, C].
Sample = Callable[
    [types.Velocity, types.Conditioning, jax.Array], jax.Array
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolloutState:
  """All that one chunk hands to the next; constant in size.

  Attributes:
    continuity: [B, m, H, W, C] clean latents; before chunk 0 the first slot is
      the reference latent and the others are zeros that nothing reads.
    key: of the whole run; chunk j draws from fold_in(key, j).
    chunk: index of the next chunk.
  """

  continuity: np.ndarray
  key: jax.Array
  chunk: int

  def to_bytes(self) -> bytes:
    """The state as a safetensors file."""
    tensors = {
        'continuity': np.asarray(self.continuity, np.float32),
        'key': np.asarray(jax.random.key_data(self.key)),
    }
    meta = {'rollout_state': json.dumps({'format': 1, 'chunk': self.chunk})}
    return safetensors.numpy.save(tensors, metadata=meta)

  @classmethod
  def from_bytes(cls, content: bytes) -> 'RolloutState':
    """Inverse of `to_bytes`.

    Raises:
      ValueError: damaged, or not a rollout state of this format.
    """
    try:
      size = int.from_bytes(content[:8], 'little')
      tensors = safetensors.numpy.load(content)
      header = json.loads(content[8 : 8 + size])
      meta = json.loads(header['__metadata__']['rollout_state'])
      if meta['format'] != 1:
        raise ValueError(f'rollout state of format {meta["format"]}')
      return cls(
          continuity=tensors['continuity'],
          key=jax.random.wrap_key_data(tensors['key']),
          chunk=int(meta['chunk']),
      )
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
      raise ValueError(
          f'not a rollout state ({error}); expected what to_bytes wrote'
      ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
  """What stays the same through a run.

  Attributes:
    image: [B, H, W, 3] in [-1, 1], the identity reference.
    reference: [B, T, H, W, C] reference latents.
  """

  image: jax.Array
  reference: jax.Array


def few_step(
    timesteps, shift: float, rounding: str = 'float32'
) -> Sample:
  """The student's sampler.

  Args:
    timesteps: unshifted, descending, in (0, 1000].
    shift: k of docs/method.md (1).
    rounding: of timesteps and noise levels, see `flow/samplers.py`.

  Raises:
    ValueError: timesteps that do not descend within (0, 1000].
  """
  sigmas = path.shifted_sigmas(timesteps, shift)
  return lambda velocity, conditioning, key: samplers.few_step(
      velocity, conditioning, sigmas, key, rounding=rounding
  )


def student_sampler(values: dict[str, Any], steps: int | None) -> Sample:
  """The few-step sampler that a bundle asks for.

  Args:
    values: `sampler` of the bundle's config.
    steps: even ones instead of the bundle's own, if not None.

  Raises:
    ValueError: steps out of range.
  """
  timesteps = even_timesteps(steps) if steps else values['timesteps']
  return few_step(timesteps, values['shift'], values['timestep_rounding'])


def guided_euler(
    steps: int, shift: float, scale: float, rounding: str = 'float32'
) -> Sample:
  """The teacher's sampler: Euler steps with guidance on the audio."""
  sigmas = path.shifted_sigmas(even_timesteps(steps), shift)

  def sample(velocity, conditioning, key):
    noise = jax.random.normal(key, conditioning.continuity.shape)
    guided = samplers.guided(velocity, scale)
    return samplers.euler(guided, conditioning, sigmas, noise, rounding)

  return sample


def even_timesteps(steps: int) -> list[float]:
  """Unshifted timesteps of a sampler: 4 gives 1000, 750, 500, 250.

  Raises:
    ValueError: not in 1..1000.
  """
  if not 1 <= steps <= 1000:
    raise ValueError(f'steps {steps}: expected 1 to 1000')
  return [path.TIMESTEPS * (1 - n / steps) for n in range(steps)]


class LongVideo:
  """Generates videos of any length with one set of parameters."""

  def __init__(
      self,
      networks: variants.Networks,
      params: dict[str, types.Params],
      sample: Sample,
      *,
      carry: str = 'reencode',
      color_correction: float = 0.0,
  ):
    """Prepares the compiled functions; nothing is compiled yet.

    Args:
      networks: of the bundle.
      params: {'vae', 'dit', 'audio'}; 'dit' may be a teacher's.
      sample: `few_step(...)` or `guided_euler(...)`.
      carry: 'reencode' decodes a chunk and encodes its last frames as the next
        continuity; 'latent' hands its last latents over.
      color_correction: 0 (none) to 1, strength of the Lab transfer to the
        identity reference, inside the loop.

    Raises:
      ValueError: unknown carry, or a strength outside [0, 1].
    """
    if carry not in sampler_values.CARRIES:
      raise ValueError(
          f'carry {carry!r}: expected one of {sampler_values.CARRIES}'
      )
    if not 0.0 <= color_correction <= 1.0:
      raise ValueError(
          f'color_correction {color_correction}: expected 0 to 1'
      )
    self.plan = networks.chunk
    self._networks, self._sample = networks, sample
    # Once, not with every chunk.
    self._params = jax.device_put(
        {part: params[part] for part in ('vae', 'dit', 'audio')}
    )
    self._carry, self._strength = carry, color_correction
    self._encode_reference = jax.jit(self._reference)
    self._chunk = jax.jit(self._generate_chunk)

  def start(
      self, image: np.ndarray, seed: int
  ) -> tuple[Identity, RolloutState]:
    """Encodes the identity reference.

    Args:
      image: [B, H, W, 3] in [-1, 1], one identity per row.
      seed: of all noise.

    Returns:
      The identity and the state before chunk 0.
    """
    image = jnp.asarray(image, jnp.float32)
    reference = self._encode_reference(self._params, image)
    slots = self.plan.continuity_slots
    continuity = np.zeros(
        (len(image), slots, *reference.shape[2:]), np.float32
    )
    continuity[:, 0] = np.asarray(reference[:, 0])
    state = RolloutState(
        continuity=continuity, key=jax.random.key(seed), chunk=0
    )
    return Identity(image=image, reference=reference), state

  def prepare(
      self, waveform: np.ndarray, frames: int | None = None
  ) -> Speech:
    """Speech of a run that is known as a whole.

    Args:
      waveform: [S] or [B, S] float32 at 16 kHz; one row drives all identities.
      frames: video frames to make; by default round(S / 640).
    """
    rows = np.atleast_2d(waveform)
    if frames is None:
      frames = round(rows.shape[1] / SAMPLES_PER_FRAME)
    return speech_lib.Offline(
        self._networks.audio, self._params['audio'], self.plan, rows, frames
    )

  def stream(self, blocks: Iterable[np.ndarray], frames: int) -> Speech:
    """Speech of a run that is heard through a ring buffer.

    Args:
      blocks: of [n] float32 at 16 kHz, for all identities; read while frames
        are made.
      frames: video frames to make.
    """
    return speech_lib.Streaming(
        self._networks.audio, self._params['audio'], self.plan, blocks, frames
    )

  def trace(
      self, identity: Identity, speech: Speech, state: RolloutState
  ) -> jax.stages.Traced:
    """The program of a chunk; also compiles the audio encoder."""
    heard = jax.ShapeDtypeStruct(speech.compile(), np.float32)
    return self._chunk.trace(*self._arguments(identity, heard, state))

  def compile(
      self, identity: Identity, speech: Speech, state: RolloutState
  ) -> None:
    """Compiles what a run needs ahead of its first use; jit keeps it."""
    self.trace(identity, speech, state).lower().compile()

  def run(
      self, identity: Identity, speech: Speech, state: RolloutState
  ) -> Iterator[tuple[np.ndarray, RolloutState]]:
    """Yields the chunks from `state` on.

    Args:
      identity: of `start`.
      speech: of `prepare`; must be the same when a run is continued.
      state: of `start`, or of the last chunk of an interrupted run.

    Yields:
      [B, n, H, W, 3] uint8 frames, n = new_frames except in the last chunk, and
      the state after them.
    """
    while state.chunk < speech.chunks:
      heard = speech.hear(state.chunk)
      arguments = self._arguments(identity, heard, state)
      frames, continuity = self._chunk(*arguments)
      left = speech.frames - state.chunk * self.plan.new_frames
      state = RolloutState(
          continuity=np.asarray(continuity),
          key=state.key,
          chunk=state.chunk + 1,
      )
      yield np.asarray(frames)[:, :left], state

  def _arguments(self, identity, heard, state):
    """What the compiled function takes for the chunk that `state` is at."""
    return (
        self._params,
        identity.image,
        identity.reference,
        np.asarray(state.continuity),
        heard,
        state.key,
        np.int32(state.chunk),
    )

  def _reference(self, params, image):
    encode = functools.partial(self._networks.encode_video, params['vae'])
    return temporal_reference_encoding.encode_reference(
        image,
        encode,
        self.plan.frames,
        self._networks.values['reference_encoding'],
    )

  def _generate_chunk(
      self, params, image, reference, continuity, heard, key, chunk
  ):
    """Frames [B, new, H, W, 3] uint8 and continuity [B, m, H, W, C] after;
    heard: as `Speech.hear` gives it, of one row or of B."""
    networks, plan = self._networks, self.plan
    batch, latent_frames = reference.shape[:2]
    heard = jnp.broadcast_to(heard, (batch, *heard.shape[1:]))
    window = np.arange(2 * speech_lib.RADIUS + 1)
    slots = jnp.where(chunk == 0, 1, plan.continuity_slots)
    mask = (jnp.arange(latent_frames) < slots).astype(jnp.float32)
    padding = latent_frames - plan.continuity_slots
    conditioning = types.Conditioning(
        reference=reference,
        audio=heard[:, np.arange(plan.frames)[:, None] + window],
        continuity=jnp.pad(
            continuity, ((0, 0), (0, padding), (0, 0), (0, 0), (0, 0))
        ),
        mask=jnp.broadcast_to(mask, (batch, latent_frames)),
    )
    latents = self._sample(
        networks.bind_velocity(params['dit']),
        conditioning,
        jax.random.fold_in(key, chunk),
    )
    video = networks.decode_video(params['vae'], latents)
    overlap = plan.continuity_frames
    # Frames that are neither shown nor carried need no colours.
    skipped = min(overlap, plan.frames - overlap)
    video = video[:, skipped:]
    if self._strength:
      video = color.transfer(video, image, self._strength)
    if self._carry == 'latent':
      carried = latents[:, -plan.continuity_slots :]
    else:
      carried = networks.encode_video(params['vae'], video[:, -overlap:])
    new = video[:, overlap - skipped :]
    pixels = jnp.clip(jnp.round((new + 1.0) * 127.5), 0.0, 255.0)
    return pixels.astype(jnp.uint8), carried.astype(jnp.float32)
