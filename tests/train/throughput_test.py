"""Rates with known answers, on a clock of our own."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asymtalker_jax.models import attention
from asymtalker_jax.train import needed_flops
from asymtalker_jax.train import throughput


@pytest.fixture
def clock(monkeypatch):
  """Seconds that pass when a test says so."""
  now = types.SimpleNamespace(s=0.0)
  monkeypatch.setattr(throughput.time, 'monotonic', lambda: now.s)
  return now


def test_rates_are_per_batch_without_pauses_and_compilation(clock):
  timer = throughput.Timer(
      4, tokens=10, flops={'teacher': 6.0, 'critic': 2.0}, peak=8.0
  )
  clock.s += 20.0  # A state is made or restored.
  timer.restart()
  with timer.compile():
    clock.s += 100.0
  for name in ('teacher', 'critic'):
    timer.step(name)
    with timer.data():
      clock.s += 0.5
    clock.s += 1.5
  with timer.pause():
    clock.s += 50.0
  assert timer.report() == {
      'time/step_s': 2.0,
      'time/data_wait_s': 0.5,
      'time/examples_per_s': 2.0,
      'time/tokens_per_s': 20.0,
      'time/mfu': 8.0 / (4.0 * 8.0),
      'time/compile_s': 100.0,
  }
  assert timer.report() == {}


def test_what_is_not_known_is_not_reported(clock):
  timer = throughput.Timer(4)
  timer.step('teacher')
  clock.s += 1.0
  assert set(timer.report()) == {
      'time/step_s', 'time/data_wait_s', 'time/examples_per_s'
  }


@pytest.mark.parametrize(
    'kind, peak', [('TPU v5 lite', 4 * 197e12), ('cpu', None)]
)
def test_peak_is_that_of_all_devices_where_it_is_known(kind, peak):
  device = types.SimpleNamespace(device_kind=kind)
  mesh = types.SimpleNamespace(devices=np.array([device] * 4), size=4)
  assert throughput.peak_flops(mesh) == peak


def test_attention_counts_the_same_whatever_kernel_a_machine_would_take(
    monkeypatch
):
  shape = jax.ShapeDtypeStruct((1, 128, 2, 128), jnp.bfloat16)
  found = {}
  for platform in ('cpu', 'gpu', 'tpu'):
    monkeypatch.setattr(jax, 'default_backend', lambda name=platform: name)
    found[platform] = needed_flops.needed_flops(
        lambda x: attention.attention(x, x, x), (shape,), {}
    )
  # Two products of 128 x 128 x 128 in each of two heads.
  assert set(found.values()) == {2 * 2 * 2.0 * 128**3}
