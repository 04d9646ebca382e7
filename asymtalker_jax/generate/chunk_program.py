"""The program of one generated chunk on a mesh, as shapes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.generate import long_video
from asymtalker_jax.generate import speech
from asymtalker_jax.models import variants
from asymtalker_jax.parallel import sharding


def chunk_program(
    networks: variants.Networks,
    sample: long_video.Sample,
    carry: str,
    videos: int,
    mesh: jax.sharding.Mesh,
) -> tuple[Any, tuple[Any, ...]]:
  """Returns what `LongVideo` runs for each chunk, and its arguments' shapes.

  Args:
    networks: of the variant.
    sample: `long_video.few_step(...)` or `guided_euler(...)`.
    carry: see `LongVideo`.
    videos: made side by side; a multiple of data x fsdp.
    mesh: of `parallel.mesh.make_mesh`.

  Raises:
    ValueError: the mesh does not divide `videos`.
  """
  sharding.check_batch_size(videos, mesh)

  def chunk(params, *rest):
    video = long_video.LongVideo(networks, params, sample, carry=carry)
    return video._generate_chunk(params, *rest)  # pylint: disable=protected-access

  plan, audio = networks.chunk, networks.audio.config
  params = jax.eval_shape(networks.init, jax.random.key(0))
  whole = sharding.replicated(mesh)
  shape = lambda sizes, dtype, where: jax.ShapeDtypeStruct(
      sizes, dtype, sharding=where
  )
  rows = lambda *sizes: shape(
      (videos, *sizes), jnp.float32, sharding.batch_sharding(mesh)
  )
  heard = plan.frames + 2 * speech.RADIUS
  args = (
      jax.tree.map(
          lambda x, where: shape(x.shape, x.dtype, where),
          params, sharding.fsdp_sharding(params, mesh),
      ),
      rows(plan.height, plan.width, 3),
      rows(*plan.latent_shape),
      rows(plan.continuity_slots, *plan.latent_shape[1:]),
      rows(heard, audio.layers, audio.channels),
      shape((), jax.eval_shape(lambda: jax.random.key(0)).dtype, whole),
      shape((), np.int32, whole),
  )
  return chunk, args
