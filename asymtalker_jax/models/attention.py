"""Attention of the DiT: one function, and the two layers that call it.

Where each layer runs on several devices: `parallel/sequence_attention.py`.
"""

import functools

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from asymtalker_jax.models import rope
from asymtalker_jax.models.embeddings import MATRIX
from asymtalker_jax.parallel import mesh
from asymtalker_jax.parallel import sequence_attention

SAVED = 'attention'  # Name of what a layer attended to, for remat policies.
_LANES = 128  # Smallest tile of a TPU kernel along tokens and channels.


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Softmax attention without a mask on one device.

  The only place that computes it; `choose_kernel` says how.

  Args:
    query: [..., S, N, Dh].
    key: [..., S', N, Dh].
    value: [..., S', N, Dh].

  Returns:
    [..., S, N, Dh] of the dtype of value.
  """
  kernel = choose_kernel(
      mesh.platform(), query.dtype, query.shape, key.shape[-3]
  )
  return KERNELS[kernel](query, key, value)


def choose_kernel(
    platform: str, dtype: jnp.dtype, shape: tuple[int, ...], keys: int
) -> str:
  """Name of the kernel in KERNELS for these queries.

  Args:
    platform: 'cpu', 'gpu' or 'tpu'.
    dtype: of queries, keys and values.
    shape: [..., S, N, Dh] of the queries.
    keys: S'.
  """
  if len(shape) != 4:  # One batch axis is what the fused kernels take.
    return 'xla'
  half = dtype in (jnp.bfloat16, jnp.float16)
  if platform == 'gpu' and half:
    return 'cudnn'
  tiled = not any(n % _LANES for n in (shape[1], keys, shape[-1]))
  if platform == 'tpu' and tiled:
    return 'splash'
  return 'xla'


def _xla(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Matrix products with the softmax in float32."""
  # Heads before tokens: otherwise XLA on CPU transposes the [B, N, S, S']
  # logits, by far the largest array, instead of the operands.
  scale = query.shape[-1] ** -0.5
  query, value = query.swapaxes(-2, -3), value.swapaxes(-2, -3)
  key = jnp.moveaxis(key, -3, -1)
  logits = jnp.matmul(query, key, preferred_element_type=jnp.float32) * scale
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.matmul(weights, value).swapaxes(-2, -3)


def _splash(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    interpret: bool = False,
) -> jax.Array:
  """The splash kernel of JAX for TPU; `interpret` runs it anywhere."""
  # Imports Pallas, which not every installation of JAX can.
  from jax.experimental.pallas.ops.tpu import splash_attention as splash  # pylint: disable=import-outside-toplevel

  heads = query.shape[2]
  sizes = (query.shape[1], key.shape[1])
  q_block, kv_block = (_block(n, most) for n, most in zip(sizes, (512, 1024)))
  inner = _block(kv_block, 512)
  kernel = splash.make_splash_mha(
      splash.MultiHeadMask([splash.FullMask(sizes)] * heads),
      block_sizes=splash.BlockSizes(
          block_q=q_block, block_kv=kv_block, block_kv_compute=inner,
          block_q_dkv=q_block, block_kv_dkv=kv_block,
          block_kv_dkv_compute=inner, use_fused_bwd_kernel=True,
      ),
      head_shards=1,
      q_seq_shards=1,
      interpret=interpret,
  )
  # The kernel does not scale its logits.
  scaled = query.astype(jnp.float32) * query.shape[-1] ** -0.5
  heads_first = lambda x: x.swapaxes(1, 2)
  out = jax.vmap(kernel)(
      *map(heads_first, (scaled.astype(query.dtype), key, value))
  )
  return heads_first(out).astype(value.dtype)


def _block(size: int, most: int) -> int:
  """Largest multiple of _LANES up to `most` that divides `size`."""
  return max(n for n in range(_LANES, most + 1, _LANES) if size % n == 0)


KERNELS = {
    'cudnn': functools.partial(
        jax.nn.dot_product_attention, implementation='cudnn'
    ),
    'splash': _splash,
    'xla': _xla,
}


class Projection(nn.Module):
  """Linear map to heads, with RMS norm over the full width if asked for."""

  heads: int
  width: int
  eps: float
  dtype: jnp.dtype
  normalise: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., D'] -> [..., N, D / N], float32 if normalised."""
    x = nn.Dense(
        self.width, dtype=self.dtype, kernel_init=MATRIX, name='linear'
    )(x)
    if self.normalise:
      x = nn.RMSNorm(
          epsilon=self.eps,
          dtype=jnp.float32,
          use_fast_variance=False,
          name='norm',
      )(x)
    return x.reshape(*x.shape[:-1], self.heads, -1)


class MultiHeadAttention(nn.Module):
  """Attention with RMS-normalised queries and keys.

  Attributes:
    width: D, of queries, keys, values and the result.
    heads: N.
    eps: of the RMS norms.
    dtype: of the matrix products' inputs.
  """

  width: int
  heads: int
  eps: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      context: jax.Array | None = None,
      rotation: tuple[jax.Array, jax.Array] | None = None,
  ) -> jax.Array:
    """Tokens attend to each other, or to those of a context.

    Args:
      x: [B, T, P, D].
      context: [B, G, S, D]: the tokens of x in G equal groups along T see the
        S context tokens of their own group (cross-attention). None: each token
        sees all T P tokens (self-attention).
      rotation: cos and sin [T, P, D / N / 2] of `rope.rotation` for
        self-attention; cross-attention has no positions.

    Returns:
      [B, T, P, D] in the module's dtype.
    """

    def project(name, source, normalise):
      return Projection(
          self.heads, self.width, self.eps, self.dtype, normalise, name=name
      )(source)

    source = x if context is None else context
    query = project('query', x, True)
    key = project('key', source, True)
    value = project('value', source, False)
    if rotation is not None:
      query = rope.rotate(query, *rotation)
      key = rope.rotate(key, *rotation)
    query, key = query.astype(self.dtype), key.astype(self.dtype)
    if context is None:
      out = sequence_attention.attend(query, key, value, attention)
    else:
      groups = (*context.shape[:2], -1, *query.shape[3:])
      out = attention(query.reshape(groups), key, value)
    out = checkpoint_name(out.reshape(x.shape), SAVED)
    return nn.Dense(
        self.width, dtype=self.dtype, kernel_init=MATRIX, name='out'
    )(out)
