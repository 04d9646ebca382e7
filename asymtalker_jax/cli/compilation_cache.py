"""Compiled programs on disk, so that a second run starts at once."""

import hashlib
import os
import pathlib
import platform

from absl import logging
import jax


def enable() -> None:
  """Keeps compiled programs in ~/.cache/asymtalker_jax/xla.

  ASYMTALKER_CACHE names another folder, or nothing to switch the cache off. A
  program for one processor may crash on another, so every kind of processor has
  its own folder. A folder that cannot be made only costs time. JAX's own
  JAX_COMPILATION_CACHE_DIR holds where it is set.
  """
  if jax.config.jax_compilation_cache_dir:
    return
  root = os.environ.get('ASYMTALKER_CACHE')
  if root == '':
    return
  base = pathlib.Path(root or pathlib.Path.home() / '.cache/asymtalker_jax/xla')
  folder = base / f'jax-{jax.__version__}-{_processor()}'
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    logging.warning('%s: no cache of compiled programs (%s)', folder, error)
    return
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def _processor() -> str:
  """Short name that differs where the instruction set does."""
  text = platform.machine()
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    lines = info.read_text(errors='replace').splitlines()
    text += next((l for l in lines if l.startswith(('flags', 'Features'))), '')
  return hashlib.sha256(text.encode()).hexdigest()[:12]
