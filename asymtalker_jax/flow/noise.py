"""Random draws for a batch, from one key or from one key per example.

With a key per example ([B] keys of `example_keys`) the noise of an example
depends on its place in the global batch only: not on how the batch is split
into microbatches or over devices. With one key these are jax.random's own.
"""

import jax


def example_keys(key: jax.Array, count: int) -> jax.Array:
  """Returns [count] keys, one for each example."""
  return jax.random.split(key, count)


def fold_in(key: jax.Array, data) -> jax.Array:
  """Returns key(s) that differ from those for other `data`."""
  if not key.ndim:
    return jax.random.fold_in(key, data)
  return jax.vmap(lambda k: jax.random.fold_in(k, data))(key)


def split(key: jax.Array, parts: int = 2) -> tuple[jax.Array, ...]:
  """Returns `parts` independent keys, each of the shape of `key`."""
  if not key.ndim:
    return tuple(jax.random.split(key, parts))
  rows = jax.vmap(lambda k: jax.random.split(k, parts))(key)
  return tuple(rows[:, i] for i in range(parts))


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns standard normal noise [B, ...] of the shape."""
  return _draw(jax.random.normal, key, shape)


def uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns uniform numbers [B, ...] in [0, 1)."""
  return _draw(jax.random.uniform, key, shape)


def _draw(function, key, shape):
  if not key.ndim:
    return function(key, shape)
  return jax.vmap(lambda k: function(k, shape[1:]))(key)
