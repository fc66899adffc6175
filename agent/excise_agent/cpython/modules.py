"""The ELF files that a process has mapped, from /proc/PID/maps: where each one's first byte lies, and what
runs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

MAX_MAPS_BYTES: Final = 64 << 20  # vm.max_map_count (65530) lines of 256 bytes are 16 MB
_LINE: Final = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-])[w-]([x-])[ps] ([0-9a-f]{1,16}) "
    rb"([0-9a-f]+:[0-9a-f]+) (\d+) +(/.*)$", re.M)
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Segment:
    start: int
    end: int
    offset: int  # in the file
    readable: bool
    executable: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A mapped file that holds executable code. `path` is as the target sees it and is for showing, not for
    opening.
    """

    path: str
    segments: tuple[Segment, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def maps_code_at(self, addr: int) -> bool:
        return any(s.executable and s.start <= addr < s.end for s in self.segments)

    def readable(self) -> list[Segment]:
        return [s for s in self.segments if s.readable]


def read_maps(pid: int, root: str = "/proc") -> bytes:
    """Raises OSError."""
    fd = os.open(f"{root}/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    parts: list[bytes] = []
    size = 0
    try:
        while size < MAX_MAPS_BYTES and (part := os.read(fd, 1 << 20)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def parse_maps(text: bytes) -> list[Module]:
    """Modules in the order of their first mapping. Mappings without a file, and files without code, are left
    out.
    """
    files: dict[tuple[bytes, bytes, bytes], list[Segment]] = {}
    for start, end, r, x, offset, dev, inode, path in _LINE.findall(text):
        segment = Segment(int(start, 16), int(end, 16), int(offset, 16), r == b"r", x == b"x")
        files.setdefault((path, dev, inode), []).append(segment)
    return [Module(os.fsdecode(path).removesuffix(_DELETED), tuple(segments))
            for (path, _, _), segments in files.items() if any(s.executable for s in segments)]
