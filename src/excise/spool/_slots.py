"""Two numbers on disk that survive a write cut off: two records, written in turn; the newest good one is it."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final

_RECORD: Final = struct.Struct("<8sQQQ")  # magic, generation, the two numbers
_CRC: Final = struct.Struct("<I")
_STEP_BYTES: Final = 4096  # a record each in a block of its own: no disk tears two by one write
_SIZE: Final = _RECORD.size + _CRC.size


class Slots:
    """Two numbers below 2^64. The descriptor stays the caller's to close."""

    def __init__(self, fd: int, magic: bytes) -> None:
        self._fd, self._magic = fd, magic
        self._generation, self._slot, found = _newest(fd, magic)
        self.damaged = found is None and os.fstat(fd).st_size > 0
        self.value: tuple[int, int] | None = found  # None: new, or damaged

    def put(self, first: int, second: int) -> None:
        """On the disk when it returns. Raises OSError, and then the old ones may still be there."""
        slot = 1 - self._slot
        both = self.value is None  # the blocks of both are taken now: later ones need no space on the disk
        content = self._record(first, second)
        if both:
            _write(self._fd, content, _STEP_BYTES * self._slot)
        _write(self._fd, content, _STEP_BYTES * slot)
        os.fdatasync(self._fd)
        self._slot, self._generation, self.value = slot, self._generation + 1, (first, second)

    def _record(self, first: int, second: int) -> bytes:
        content = _RECORD.pack(self._magic, self._generation + 1, first, second)
        return (content + _CRC.pack(zlib.crc32(content))).ljust(_STEP_BYTES, b"\0")


def read_slots(fd: int, magic: bytes) -> tuple[int, int] | None:
    return _newest(fd, magic)[2]


def _newest(fd: int, magic: bytes) -> tuple[int, int, tuple[int, int] | None]:
    """Generation, slot and numbers."""
    best: tuple[int, int, tuple[int, int] | None] = (0, 1, None)
    for slot in (0, 1):
        content = os.pread(fd, _SIZE, _STEP_BYTES * slot)
        if len(content) < _SIZE or _CRC.unpack_from(content, _RECORD.size)[0] != zlib.crc32(content[:_RECORD.size]):
            continue
        kind, generation, first, second = _RECORD.unpack_from(content)
        if kind == magic and generation > best[0]:
            best = generation, slot, (first, second)
    return best


def _write(fd: int, content: bytes, offset: int) -> None:
    if os.pwrite(fd, content, offset) != len(content):
        raise OSError("a short write")
