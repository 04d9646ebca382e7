"""Attention over tokens that lie on several devices: the shard_map region.

Tokens are [B, T, P, ...]: examples over 'data' x 'fsdp', the P positions of
every latent frame over 'seq'. Everything else in the network acts on tokens
one by one (or on the few audio tokens, of which every device has all), so
self-attention is the only layer that has to talk along 'seq':

  ulysses  all-to-all: from all heads of some tokens to all tokens of some
           heads, ordinary attention, and back (DeepSpeed-Ulysses, arXiv
           2309.14509). Moves 4 activations; needs heads divisible by 'seq'.
  ring     keys and values go round while each device folds them into a running
           softmax (Ring Attention, arXiv 2310.01889). For any number of heads.

Attention without a mask does not depend on the order of its tokens, so each
device may flatten its own T x P as it lies.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from asymtalker_jax.parallel import mesh as mesh_lib
from asymtalker_jax.parallel import sharding

# (query, key, value), each [B, S, N, Dh] on one device -> [B, S, N, Dh].
Local = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def method(heads: int, seq: int) -> str:
  """Returns how attention is done: 'local', 'ulysses' or 'ring'."""
  if seq == 1:
    return 'local'
  return 'ring' if heads % seq else 'ulysses'


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, local: Local
) -> jax.Array:
  """Self-attention of all T P tokens of an example, without a mask.

  Args:
    query: [B, T, P, N, Dh].
    key: like query.
    value: like query.
    local: attention on one device. Under a mesh it sees per-device arrays, so
      that it may be a kernel which XLA cannot partition.

  Returns:
    [B, T, P, N, Dh]. B is replicated where data x fsdp does not divide it.

  Raises:
    ValueError: 'seq' does not divide P.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return _local(query, key, value, local=local)
  seq = mesh.shape[mesh_lib.SEQ]
  if query.shape[2] % seq:
    raise ValueError(
        f'mesh seq={seq}: expected a divisor of the {query.shape[2]} tokens of'
        ' a latent frame'
    )
  spec = sharding.activation_spec(query.shape, mesh, seq_axis=2)
  body = {'local': _local, 'ulysses': _ulysses, 'ring': _ring}
  return jax.shard_map(
      functools.partial(body[method(query.shape[3], seq)], local=local),
      in_specs=(spec,) * 3,
      out_specs=spec,
      check_vma=False,  # Kernels do not say along which axes they vary.
  )(query, key, value)


def _local(query, key, value, *, local: Local) -> jax.Array:
  """Attention of the tokens at hand."""
  flat = lambda x: x.reshape(x.shape[0], -1, *x.shape[3:])
  return local(*map(flat, (query, key, value))).reshape(query.shape)


def _ulysses(query, key, value, *, local: Local) -> jax.Array:
  """Attention of all tokens, a share of the heads per device."""
  swap = functools.partial(
      jax.lax.all_to_all, axis_name=mesh_lib.SEQ, tiled=True
  )
  to_heads = functools.partial(swap, split_axis=3, concat_axis=2)
  out = _local(*map(to_heads, (query, key, value)), local=local)
  return swap(out, split_axis=2, concat_axis=3)


def _ring(query, key, value, *, local: Local) -> jax.Array:
  """Attention of the tokens at hand to those of every device in turn.

  Computed by XLA: a fused kernel would have to hand out its running sums and
  take their gradients. Blocks are 1 / seq of the logits at most, and are
  computed again in the backward pass.
  """
  del local
  size = jax.lax.axis_size(mesh_lib.SEQ)
  heads_first = lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]).swapaxes(1, 2)
  q, k, v = map(heads_first, (query, key, value))
  neighbours = [(i, (i + 1) % size) for i in range(size)]

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def fold(sums, k, v):
    top, weight, total = sums
    logits = jnp.einsum(
        'bnsd,bntd->bnst', q, k, preferred_element_type=jnp.float32
    ) * (q.shape[-1] ** -0.5)
    # The shift cancels out of the result, and so has no gradient.
    new_top = jax.lax.stop_gradient(jnp.maximum(top, logits.max(-1)))
    keep = jnp.exp(top - new_top)
    terms = jnp.exp(logits - new_top[..., None])
    add = jnp.einsum(
        'bnst,bntd->bnsd', terms.astype(v.dtype), v,
        preferred_element_type=jnp.float32,
    )
    return (
        new_top, weight * keep + terms.sum(-1), total * keep[..., None] + add
    )

  def step(carry, _):
    sums, k, v = carry
    pass_on = lambda x: jax.lax.ppermute(x, mesh_lib.SEQ, neighbours)
    k, v = pass_on(k), pass_on(v)
    return (fold(sums, k, v), k, v), None

  lowest = jnp.full(q.shape[:-1], jnp.finfo(jnp.float32).min)
  zeros = jnp.zeros(q.shape, jnp.float32)
  sums = fold((lowest, zeros[..., 0], zeros), k, v)
  ((_, weight, total), _, _), _ = jax.lax.scan(
      step, (sums, k, v), length=size - 1
  )
  out = (total / weight[..., None]).astype(value.dtype)
  return out.swapaxes(1, 2).reshape(query.shape)
