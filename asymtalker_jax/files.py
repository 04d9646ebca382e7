"""Files that appear under their name only when they are whole."""

import os
import pathlib
import uuid


def check_place(path: str, flag: str = '') -> None:
  """Whether a file could be written, before the work for it is done.

  Args:
    path: of the file.
    flag: put before the path in messages, as '--json='.

  Raises:
    ValueError, OSError: no such folder, not writable, or a folder itself.
  """
  folder = os.path.dirname(path) or '.'
  if not os.path.isdir(folder):
    raise FileNotFoundError(
        f'{flag}{path}: there is no folder {folder}; expected one that exists'
    )
  if os.path.isdir(path):
    raise ValueError(f'{flag}{path}: is a folder; expected a file name')
  if not os.access(folder, os.W_OK):
    raise PermissionError(f'{flag}{path}: the folder is not writable')


def write(path: str | os.PathLike, content: bytes) -> pathlib.Path:
  """Writes a file under a temporary name in its folder, then renames it.

  Args:
    path: in a folder that exists.
    content: of the whole file.

  Raises:
    OSError: names the path; nothing is left, an older file stays as it was.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.part')
  try:
    temporary.write_bytes(content)
    os.replace(temporary, path)
  except OSError as error:
    raise OSError(
        f'{path}: cannot be written ({error.strerror or error})'
    ) from error
  finally:
    temporary.unlink(missing_ok=True)
  return path
