"""What differs between a checkpoint and a run that wants to go on from it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def values(
    old: Mapping[str, Any], new: Mapping[str, Any], free: tuple[str, ...] = ()
) -> list[str]:
  """Returns one line per value that differs, of configs as nested dicts.

  Args:
    old: in the checkpoint.
    new: of the run.
    free: dotted prefixes of keys that may differ.
  """
  old, new = _flatten(old), _flatten(new)
  lines = []
  for key in sorted(set(old) | set(new)):
    if any(key == f or key.startswith(f + '.') for f in free):
      continue
    before, after = old.get(key, 'absent'), new.get(key, 'absent')
    if before != after:
      lines.append(f'{key}: {before!r} in the checkpoint, {after!r} now')
  return lines


def arrays(old: Any, new: Any) -> list[str]:
  """Returns one line per array of another type or shape, or of one side only.

  Args:
    old: tree in the checkpoint, leaves with shape and dtype.
    new: that of the run.
  """
  return values(_shapes(old), _shapes(new))


def _flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  if not isinstance(tree, Mapping):
    return {prefix: tree}
  flat = {}
  for key, value in tree.items():
    flat |= _flatten(value, f'{prefix}.{key}' if prefix else str(key))
  return flat


def _shapes(tree: Any) -> dict[str, str]:
  """Returns path -> type and shape of the arrays in a tree."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
      jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{np.dtype(leaf.dtype).name}{list(leaf.shape)}'
      for path, leaf in leaves
      if hasattr(leaf, 'shape')
  }
