"""Who sees which continuity reference: the asymmetry on one screen.

  arm                      student        teacher        critic
  asymmetric (the method)  self           ground_truth   ground_truth | self
  symmetric_ground_truth   ground_truth   ground_truth   ground_truth
  symmetric_self           self           self           self

`self` is what the student generated for the previous chunk, decoded and encoded
again; `ground_truth` is g_k[:m], the leading latents of the encoded window k,
which by causality of the VAE encode exactly the frames before chunk k. Chunk 0
of the student starts from the reference in every arm.
"""

import dataclasses

import jax
import jax.numpy as jnp

from asymtalker_jax import types

SOURCES = ('self', 'ground_truth')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
  """Source of continuity per role; see the table above.

  Raises:
    ValueError: a source that is not in SOURCES, or a student on ground truth
      beside a teacher or critic on `self`, which that student never generates.
  """

  student: str = 'self'
  teacher: str = 'ground_truth'
  critic: str = 'ground_truth'

  def __post_init__(self):
    for role, source in dataclasses.asdict(self).items():
      if source not in SOURCES:
        raise ValueError(
            f'continuity.{role} {source!r}: expected one of {SOURCES}'
        )
    if self.student == 'ground_truth' and 'self' in (self.teacher, self.critic):
      raise ValueError(
          'continuity.student is ground_truth, so there are no own frames for'
          f' continuity.teacher {self.teacher!r} and critic {self.critic!r}'
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Continuity:
  """Clean leading slots of a chunk.

  Attributes:
    latents: [B, T, H, W, C]; slots where the mask is 0 are never read.
    mask: [B, T] 1 on clean slots.
  """

  latents: jax.Array
  mask: jax.Array


def clean_mask(slots, batch: int, latent_frames: int) -> jax.Array:
  """[B, T] with 1 in the first `slots` (a scalar or [B]) latent frames."""
  slots = jnp.broadcast_to(jnp.asarray(slots), (batch,))
  return (jnp.arange(latent_frames) < slots[:, None]).astype(jnp.float32)


def slots_of_chunk(k, slots: int):
  """A cold start (chunk 0) holds one slot clean, later chunks `slots`."""
  return jnp.where(k == 0, 1, slots)


def window(batch: types.StudentBatch, k) -> jax.Array:
  """Ground-truth latents g_k, [B, T, H, W, C]."""
  return jnp.take(jnp.asarray(batch.latents), k, axis=1)


def ground_truth(
    batch: types.StudentBatch, k, slots: int
) -> Continuity:
  """Ground-truth continuity of chunk k, the teacher's view in the method."""
  g = window(batch, k)
  return Continuity(
      latents=g, mask=clean_mask(slots_of_chunk(k, slots), *g.shape[:2])
  )


def select(
    source: str, own: Continuity | None, batch: types.StudentBatch, k,
    slots: int,
) -> Continuity:
  """The continuity that a role with this source sees at chunk k.

  Args:
    source: 'self' or 'ground_truth'.
    own: the student's own continuity; None where the arm has none.
    batch: ground-truth windows.
    k: chunk index, may be traced.
    slots: m.
  """
  return own if source == 'self' else ground_truth(batch, k, slots)


def start_from_reference(
    seen: Continuity, batch: types.StudentBatch, k
) -> Continuity:
  """The student's view: chunk 0 starts from the reference in every arm, as it
  does in generation, so that arms differ in the chunks after it only."""
  latents = jnp.where(k == 0, batch.reference, seen.latents)
  return dataclasses.replace(seen, latents=latents)


def conditioning(
    batch: types.StudentBatch, k, continuity: Continuity
) -> types.Conditioning:
  """Reference and audio of chunk k beside a continuity."""
  return types.Conditioning(
      reference=batch.reference,
      audio=jnp.take(jnp.asarray(batch.audio), k, axis=1),
      continuity=continuity.latents,
      mask=continuity.mask,
  )
