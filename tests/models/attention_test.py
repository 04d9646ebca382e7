import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.models import attention
from asymtalker_jax.models import dit


ATTENTION = jax.jit(attention.attention)


def _qkv(queries, keys, dtype=np.float32):
  rng = np.random.default_rng(0)
  shapes = ((2, queries, 3, 8), (2, keys, 3, 8), (2, keys, 3, 8))
  return [jnp.asarray(3 * rng.normal(size=s), dtype) for s in shapes]


@pytest.mark.parametrize('keys', [6, 4])
def test_attention_equals_the_definition(keys):
  q, k, v = (np.asarray(x) for x in _qkv(6, keys))
  want = np.empty(q.shape)
  for b in range(2):
    for n in range(3):
      weights = np.exp(q[b, :, n] @ k[b, :, n].T / 8**0.5)
      weights /= weights.sum(axis=1, keepdims=True)
      want[b, :, n] = weights @ v[b, :, n]
  np.testing.assert_allclose(ATTENTION(q, k, v), want, atol=1e-5)


def test_attention_and_its_gradients_equal_the_library():
  tensors = _qkv(6, 6)

  def loss(function):
    return lambda *qkv: (jnp.sin(function(*qkv))).sum()

  got = jax.jit(jax.grad(loss(ATTENTION), (0, 1, 2)))(*tensors)
  library = loss(jax.nn.dot_product_attention)
  want = jax.jit(jax.grad(library, (0, 1, 2)))(*tensors)
  for g, w in zip(got, want):
    np.testing.assert_allclose(g, w, atol=1e-5)


def test_half_precision_keeps_the_softmax_in_float32():
  half = [(x / 3).astype(jnp.bfloat16) for x in _qkv(6, 512)]
  got = ATTENTION(*half)
  assert got.dtype == jnp.bfloat16
  want = ATTENTION(*(x.astype(jnp.float32) for x in half))
  # A sum of 512 weights in bfloat16 would stop growing at a half.
  np.testing.assert_allclose(got.astype(jnp.float32), want, atol=5e-3)


def test_large_logits_do_not_overflow():
  q, k, v = _qkv(6, 6)
  assert np.isfinite(ATTENTION(1e4 * q, k, v)).all()


@pytest.mark.parametrize('remat, kept', [('dots', 1), ('full', 0)])
def test_attention_is_computed_once_where_products_are_kept(
    remat, kept, capsys
):
  layer = attention.MultiHeadAttention(
      width=8, heads=2, eps=1e-6, dtype=jnp.float32
  )
  x = jnp.ones((1, 2, 3, 8))
  params = layer.init(jax.random.key(0), x)
  apply = jax.checkpoint(
      lambda *args: layer.apply(*args).sum(), policy=dit.REMAT[remat]
  )
  jax.ad_checkpoint.print_saved_residuals(apply, params, x)
  found = capsys.readouterr().out
  assert found.count(f"named '{attention.SAVED}'") == kept
