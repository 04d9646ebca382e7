"""One cache of compiled programs for all tests of a run and what they start:
many compile the same."""

import os
import tempfile


def pytest_configure(config):
  # Processes of pytest-xdist find the folder in the environment.
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  folder = tempfile.TemporaryDirectory(prefix='asymtalker-tests-')
  config.add_cleanup(folder.cleanup)
  os.environ['JAX_COMPILATION_CACHE_DIR'] = folder.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
