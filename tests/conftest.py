"""What makes tests wait less for compilers: one cache of compiled programs for
all tests of a run and what they start, and programs that are not optimised.

XLA_FLAGS=--xla_backend_optimization_level=3 has them optimised, as users do.
"""

import os
import tempfile


def pytest_configure(config):
  flags = os.environ.get('XLA_FLAGS', '')
  if 'xla_backend_optimization_level' not in flags:
    flags += ' --xla_backend_optimization_level=0'
    os.environ['XLA_FLAGS'] = flags.strip()
  # Processes of pytest-xdist find the folder in the environment.
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  folder = tempfile.TemporaryDirectory(prefix='asymtalker-tests-')
  config.add_cleanup(folder.cleanup)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = folder.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
