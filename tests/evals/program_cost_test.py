"""Operations of programs with known counts; loops count in full."""

import jax
import jax.numpy as jnp
import pytest

from asymtalker_jax.evals import program_cost
from asymtalker_jax.models import dit
from asymtalker_jax.models import variants

SIZE = 64
MATRIX = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)


def chain(x, turns):
  for _ in range(turns):
    x = jnp.sin(x @ x)
  return x


def looped(x, turns):
  return jax.lax.scan(lambda c, _: (chain(c, 1), None), x, length=turns)[0]


def test_a_loop_costs_what_its_turns_cost_one_by_one():
  wanted, found = (
      program_cost.xla_cost(jax.make_jaxpr(f, static_argnums=1)(MATRIX, 7))
      for f in (chain, looped)
  )
  assert found['flops'] == pytest.approx(wanted['flops'], rel=0.01)
  assert found['bytes'] == pytest.approx(wanted['bytes'], rel=0.2)
  assert wanted['flops'] == pytest.approx(7 * 2 * SIZE**3, rel=0.02)


def test_loops_in_loops_and_calls_multiply():
  def inner(x):
    return jax.jit(looped, static_argnums=1)(x, 3)

  def outer(x):
    return jax.lax.fori_loop(0, 5, lambda _, c: inner(c), x) @ x
  closed = jax.make_jaxpr(outer)(MATRIX)
  assert program_cost.matrix_flops(closed) == (5 * 3 + 1) * 2 * SIZE**3
  found = program_cost.xla_cost(closed)['flops']
  assert found == pytest.approx(16 * 2 * SIZE**3, rel=0.05)


def test_convolutions():
  kernel = jnp.zeros((3, 3, 4, 6))

  def convolve(x):
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
  picture = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
  found = program_cost.matrix_flops(jax.make_jaxpr(convolve)(picture))
  assert found == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4)


def test_a_loop_without_a_known_end():
  endless = lambda x: jax.lax.while_loop(lambda c: c < 9, lambda c: c + 1, x)
  with pytest.raises(ValueError, match='known length'):
    program_cost.matrix_flops(jax.make_jaxpr(endless)(0))


def dit_flops(
    config: dit.DiTConfig, latents: tuple[int, ...], audio: tuple[int, ...]
) -> float:
  """Operations of the matrix products of one forward pass, in closed form.

  Args:
    config: of a DiT that hears audio.
    latents: [B, T, H, W, C].
    audio: [B, F, 5, L, A].
  """
  batch, frames, height, width, channels = latents
  cells = config.patch[1] * config.patch[2]
  spots = height * width // cells
  tokens, d = frames * spots, config.width
  heard = config.audio_tokens
  block = (
      6 * tokens * d * d  # q, k, v and out of both attentions: 8 in all, ...
      + 2 * frames * heard * d * d  # of which 2 are of the audio tokens.
      + 2 * tokens * tokens * d
      + 2 * tokens * heard * d
      + 2 * tokens * d * config.ffn
  )
  ends = tokens * d * (2 * channels * cells + channels * cells)
  time = d * (config.frequency_dim + d + 6 * d)
  entry = audio[3] * audio[4] * config.audio_hidden
  later = (frames - 1) * (config.temporal_stride + 4)
  hidden = config.audio_hidden
  projection = (
      (5 + later) * entry + frames * hidden * (hidden + heard * d)
  )
  return 2.0 * batch * (config.depth * block + ends + time + projection)


def test_the_closed_form_of_the_transformer_is_what_it_computes():
  networks = variants.build(variants.values_of('micro'))
  latents = jax.ShapeDtypeStruct((2, *networks.chunk.latent_shape), jnp.float32)
  audio = jax.ShapeDtypeStruct((2, 33, 5, 4, 40), jnp.float32)
  timestep = jax.ShapeDtypeStruct((2,), jnp.float32)
  params = jax.eval_shape(networks.init_dit, jax.random.key(0))
  closed = jax.make_jaxpr(
      lambda p, x, t, a: networks.dit.apply({'params': p}, x, t, x, a)
  )(params, latents, timestep, audio)
  wanted = dit_flops(
      networks.dit.config, latents.shape, audio.shape
  )
  assert program_cost.matrix_flops(closed) == wanted
  assert wanted > 6e8
