"""What this process is: its memory and its versions, for reports."""

import importlib.metadata
import os
import pathlib
import platform
import resource

_STATM = pathlib.Path('/proc/self/statm')
_PACKAGES = ('asymtalker_jax', 'jax', 'jaxlib', 'flax', 'numpy', 'av')


def resident_mb() -> float:
  """Memory that this process holds now; its peak where only that is known."""
  if _STATM.exists():
    pages = int(_STATM.read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
  return peak_mb()


def peak_mb() -> float:
  """Largest memory that this process has held."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak / (2**20 if platform.system() == 'Darwin' else 2**10)


def versions() -> dict[str, str]:
  """Python and the packages that decide what comes out."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = 'not installed'
  return found
