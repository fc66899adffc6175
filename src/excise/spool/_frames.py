"""Frames out of one file that may still grow, and may be damaged anywhere: what is damaged is passed over."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import numpy as np

from excise.framing import FRAME, MAX_FRAME_BYTES, checksum
from excise.summary.schema import FIRST_LINE, FIRST_LINE_BYTES, FRAME_TYPES, MAGIC, VERSION

SEGMENT: Final = 0
"""Type of what stands for a segment's first line."""

MAX_FILE_BYTES: Final = 64 << 20
"""Nothing behind this is read: a writer's files have an eighth of it, a sparse one would keep us busy for hours."""

_MAX_DAMAGES: Final = 1000
"""Of a file: then the rest of it is given up. Each costs a search, some 0.2 ms."""

_FIRST_CHUNK_BYTES: Final = 4096
_LAST_CHUNK_BYTES: Final = 1 << 20
"""Searched at once, each twice the one before: the next good frame is near."""

_MAX_TRIED_BYTES: Final = 64 << 20
"""Of what only looked like frames, at one place: then the rest of the file is given up."""

class Frame(NamedTuple):
    kind: int  # of FRAME_TYPES, another one, or SEGMENT
    payload: bytes
    end: int  # offset behind it


class FrameReader:
    """Follows the file of a descriptor, which is its own to close."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self.damages = 0  # places that were passed over

    def next(self) -> Frame | None:
        """None: there is no whole one, not yet or no more."""
        frame = self._whole(self._at, size := self._size())
        if frame is None and self._at + 1 < size and self.damages < _MAX_DAMAGES:
            frame = self._search(self._at + 1, size)
            self.damages += frame is not None
        if frame is not None:
            self._at = frame.end
        return frame

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _whole(self, at: int, size: int) -> Frame | None:
        start = self._read(at, FIRST_LINE_BYTES)
        if match := FIRST_LINE.match(start):
            return Frame(SEGMENT, b"", at + match.end()) if int(match[1]) <= VERSION else None
        if len(start) < FRAME.size:
            return None
        length, crc, kind = FRAME.unpack_from(start)
        end = at + FRAME.size + length
        if length > MAX_FRAME_BYTES or end > size:
            return None
        payload = self._read(at + FRAME.size, length)
        return Frame(kind, payload, end) if len(payload) == length and checksum(kind, payload) == crc else None

    def _search(self, at: int, size: int) -> Frame | None:
        """The first good one from there on. A write that is under way, or was cut off, has none."""
        tried, step = 0, _FIRST_CHUNK_BYTES
        while at + FRAME.size <= size:
            chunk = self._read(at, min(step, size - at))
            step = min(2 * step, _LAST_CHUNK_BYTES)
            for here in (at + offset for offset in _likely(chunk)):
                frame = self._whole(here, size)
                if frame is not None:
                    return frame
                start = self._read(here, FRAME.size)
                tried += FRAME.size if start == MAGIC[:FRAME.size] else 4096 + FRAME.unpack(start.ljust(FRAME.size))[0]
                if tried > _MAX_TRIED_BYTES:
                    return None
            if len(chunk) <= FIRST_LINE_BYTES:
                return None
            at += len(chunk) - FIRST_LINE_BYTES
        return None

    def _size(self) -> int:
        try:
            return min(os.fstat(self._fd).st_size, MAX_FILE_BYTES)
        except OSError:
            return 0

    def _read(self, at: int, count: int) -> bytes:
        """Fewer bytes at the end of the file and where the disk gives none."""
        try:
            return os.pread(self._fd, count, at)
        except OSError:
            return b""


def _likely(chunk: bytes) -> list[int]:
    """Where a frame of a type that we know, or a segment, may begin: ascending offsets."""
    found = []
    if len(chunk) >= FRAME.size:
        data = np.frombuffer(chunk, np.uint8)
        # of a header: the upper bytes of its length, and its type
        high, top, kind = data[2:-6], data[3:-5], data[8:]
        fits = (kind > 0) & (kind <= max(FRAME_TYPES.values())) & (top == 0) & (high <= MAX_FRAME_BYTES >> 16)
        found = np.flatnonzero(fits).tolist()
    at = chunk.find(MAGIC)
    while at >= 0:
        found.append(at)
        at = chunk.find(MAGIC, at + 1)
    return sorted(found)
