"""Parameters from bundles; those from runs are in loop_test.py."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from asymtalker_jax import bundle
from asymtalker_jax.train import start
from asymtalker_jax.train import state as state_lib

NAME = 'random:micro'


def blank(part):
  """(parameters of the bundle, state of their shapes full of zeros)."""
  params = bundle.load(NAME, (part,)).params[part]
  zeros = jax.tree.map(jnp.zeros_like, params)
  return params, state_lib.TrainState.create(zeros, optax.sgd(0.1))


def test_a_run_takes_over_the_part_that_it_trains():
  params, state = blank('vae')
  got = start.take_over(state, NAME, 'vae')
  for name in params:
    # Latent statistics are measured at the end of a training.
    kept = name in ('latent_mean', 'latent_std')
    for tree in (got.params, got.ema):
      want = state.params[name] if kept else params[name]
      chex.assert_trees_all_equal(tree[name], want)


def test_another_network_is_refused_with_the_tensors():
  state = state_lib.TrainState.create({'kernel': jnp.ones(3)}, optax.sgd(0.1))
  with pytest.raises(ValueError, match='random:micro: .* tensors do not fit'):
    start.take_over(state, NAME, 'vae')
