"""What XLA is told about the processor."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys

import pytest

from asymtalker_jax.cli import processor

OWN = (
    '--xla_cpu_experimental_ynn_fusion_type='
    '-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
)
PROGRAM = """
import os, sys
from asymtalker_jax.cli import processor
processor.choose_convolutions()
import jax, jax.numpy as jnp
image, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
f = lambda x, k: jax.lax.conv_general_dilated(
    x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
print(jax.jit(f).lower(image, kernel).compile().as_text())
"""


@pytest.fixture(autouse=True)
def without_libtpu(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)


@pytest.mark.parametrize(
    'before, version, after',
    [
        (None, '0.10.2', OWN),
        ('--xla_x=1', '0.10.0', f'--xla_x=1 {OWN}'),
        (f'{OWN[:-4]}', '0.10.2', OWN[:-4]),
        ('', '0.11.0', ''),
    ],
)
def test_flag_is_added_where_it_is_known_and_unset(
    before, version, after, monkeypatch
):
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: version)
  monkeypatch.setenv('XLA_FLAGS', before or '')
  if before is None:
    monkeypatch.delenv('XLA_FLAGS')
  processor.choose_convolutions()
  assert os.environ['XLA_FLAGS'] == after


def test_nothing_is_set_beside_libtpu(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setenv('XLA_FLAGS', '')
  processor.choose_convolutions()
  assert os.environ['XLA_FLAGS'] == ''


def test_this_xla_accepts_it_and_leaves_ynnpack_out():
  env = dict(os.environ, JAX_PLATFORMS='cpu', XLA_FLAGS='')
  run = subprocess.run(
      [sys.executable, '-c', PROGRAM], env=env, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  assert 'convolution(' in run.stdout and 'ynn' not in run.stdout
