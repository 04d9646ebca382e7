"""How long a file says that it is: the readers of these formats do not ask.

WAV and AVI (RIFF), RF64, Wave64, AIFF, AU, CAF and Ogg, of which a file that was
cut off is read to where it ends as if nothing were missing.
"""

from collections.abc import Callable
import os
from typing import BinaryIO

_TAIL = 2**17  # bytes, more than an Ogg page and a header have
_OPEN_32 = 0xFFFFFFFF - 0xFF  # sizes from here on say that it is not known
_W64_DATA = b'data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a'


def of(path: str | os.PathLike) -> int | None:
  """Bytes that a file should have at least; None where it does not say."""
  with open(path, 'rb') as file:
    head = file.read(16)
    for magic, read in _FORMATS.items():
      if head.startswith(magic):
        return read(file, head)
  return None


def is_cut(path: str | os.PathLike) -> bool:
  """Whether a file is shorter than it says."""
  promised = of(path)
  return promised is not None and os.path.getsize(path) < promised


def _little(data: bytes) -> int:
  return int.from_bytes(data, 'little')


def _known(start: int, size: int) -> int | None:
  """Where a part ends; writers that stream leave 0 or the largest number."""
  return None if size == 0 or size >= _OPEN_32 else start + size


def _riff(file: BinaryIO, head: bytes) -> int | None:
  """The end of a WAV's samples, or of an AVI's first list."""
  if head[8:12] != b'WAVE':
    return _known(8, _little(head[4:8]))
  file.seek(12)
  while len(chunk := file.read(8)) == 8:
    size = _little(chunk[4:])
    if chunk[:4] == b'data':
      return _known(file.tell(), size)
    file.seek(size + size % 2, os.SEEK_CUR)
  return None


def _rf64(file: BinaryIO, head: bytes) -> int | None:
  file.seek(12)
  chunk = file.read(16)
  if chunk[:4] != b'ds64':
    return None
  size = _little(chunk[8:16])
  return 8 + size if size else None


def _wave64(file: BinaryIO, head: bytes) -> int | None:
  file.seek(40)
  while len(chunk := file.read(24)) == 24:
    size = _little(chunk[16:])
    if chunk[:16] == _W64_DATA:
      return file.tell() - 24 + size if size > 24 else None
    file.seek(-24 + max(24, -(-size // 8) * 8), os.SEEK_CUR)
  return None


def _aiff(file: BinaryIO, head: bytes) -> int | None:
  return _known(8, int.from_bytes(head[4:8]))


def _au(file: BinaryIO, head: bytes) -> int | None:
  return _known(int.from_bytes(head[4:8]), int.from_bytes(head[8:12]))


def _caf(file: BinaryIO, head: bytes) -> int | None:
  file.seek(8)
  while len(chunk := file.read(12)) == 12:
    size = int.from_bytes(chunk[4:], signed=True)
    if chunk[:4] == b'data' or size < 0:
      return file.tell() + size if size > 0 else None
    file.seek(size, os.SEEK_CUR)
  return None


def _ogg(file: BinaryIO, head: bytes) -> int | None:
  """The end of the last page that begins."""
  size = file.seek(0, os.SEEK_END)
  start = max(0, size - _TAIL)
  file.seek(start)
  tail = file.read()
  at = tail.rfind(b'OggS\0')
  if at < 0:
    return None
  table = tail[at + 27 : at + 27 + tail[at + 26]] if len(tail) > at + 26 else b''
  if len(tail) <= at + 26 or len(table) < tail[at + 26]:
    return size + 1  # Cut in the header of the page.
  return start + at + 27 + len(table) + sum(table)


_FORMATS: dict[bytes, Callable[[BinaryIO, bytes], int | None]] = {
    b'RIFF': _riff,
    b'RF64': _rf64,
    b'riff': _wave64,
    b'FORM': _aiff,
    b'.snd': _au,
    b'caff': _caf,
    b'OggS': _ogg,
}
