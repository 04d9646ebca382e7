"""Attention of the DiT: one function, and the two layers that call it."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax.models import rope
from asymtalker_jax.models.embeddings import MATRIX


def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Softmax attention without a mask; the only place that computes it.

  Half-precision tensors on a GPU go to cuDNN's fused kernel; everything else
  to matrix products with the softmax in float32.

  Args:
    query: [B, S, N, Dh].
    key: [B, S', N, Dh].
    value: [B, S', N, Dh].

  Returns:
    [B, S, N, Dh] of the dtype of value.
  """
  half = query.dtype in (jnp.bfloat16, jnp.float16)
  if half and jax.default_backend() == 'gpu':
    return jax.nn.dot_product_attention(
        query, key, value, implementation='cudnn'
    )
  # Heads before tokens: otherwise XLA on CPU transposes the [B, N, S, S']
  # logits, by far the largest array, instead of the operands.
  scale = query.shape[-1] ** -0.5
  query, value = query.transpose(0, 2, 1, 3), value.transpose(0, 2, 1, 3)
  key = key.transpose(0, 2, 3, 1)
  logits = jnp.matmul(query, key, preferred_element_type=jnp.float32) * scale
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.matmul(weights, value).transpose(0, 2, 1, 3)


class Projection(nn.Module):
  """Linear map to heads, with RMS norm over the full width if asked for."""

  heads: int
  width: int
  eps: float
  dtype: jnp.dtype
  normalise: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, S, D'] -> [B, S, N, D / N], float32 if normalised."""
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
      context: jax.Array,
      rotation: tuple[jax.Array, jax.Array] | None = None,
  ) -> jax.Array:
    """Tokens of x attend to tokens of context.

    Args:
      x: [B, S, D].
      context: [B, S', D]; x itself for self-attention.
      rotation: cos and sin [S, D / N / 2] of `rope.rotation` for
        self-attention, None for cross-attention, which has no positions.

    Returns:
      [B, S, D] in the module's dtype.
    """

    def project(name, source, normalise):
      return Projection(
          self.heads, self.width, self.eps, self.dtype, normalise, name=name
      )(source)

    query = project('query', x, True)
    key = project('key', context, True)
    value = project('value', context, False)
    if rotation is not None:
      query = rope.rotate(query, *rotation)
      key = rope.rotate(key, *rotation)
    out = attention(query.astype(self.dtype), key.astype(self.dtype), value)
    return nn.Dense(
        self.width, dtype=self.dtype, kernel_init=MATRIX, name='out'
    )(out.reshape(x.shape))
