"""The executable mappings of a process, from /proc/PID/maps."""

from __future__ import annotations

import functools
import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_MAPS_BYTES: Final = 64 << 20  # 65530 mappings (vm.max_map_count) of 256 bytes are 16 MB
MAX_MAPPINGS: Final = 8192  # kept, 3 MB; a torch process has 200 that are executable, a busy JIT some thousand
_DELETED: Final = b" (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One executable mapping, [start, end). `path` is "" for anonymous memory (a JIT) and "[vdso]" for the
    vDSO.

    `path` may hold surrogates (os.fsdecode): it is for opening; for showing there is `label`.
    """

    start: int
    end: int
    offset: int      # of `start` in the file, bytes
    dev: int         # as os.makedev; maps and stat disagree on some filesystems (btrfs, overlay)
    inode: int       # 0: no file
    path: str
    deleted: bool

    @property
    def is_file(self) -> bool:
        return self.path.startswith("/") and self.inode != 0

    @property
    def label(self) -> str:
        """The module's name as it may be shown: valid text, no control characters."""
        return printable(self.path) if self.path else "[anon]"


class Maps:
    """Executable mappings of one process at one moment, sorted by address."""

    __slots__ = ("_bounds", "_ends", "_starts", "mappings")

    def __init__(self, mappings: list[Mapping]) -> None:
        self.mappings = sorted(mappings, key=lambda m: m.start)
        self._bounds = [m.start for m in self.mappings]
        self._starts: NDArray[np.uint64] = np.array([m.start for m in self.mappings], dtype=np.uint64)
        self._ends: NDArray[np.uint64] = np.array([m.end for m in self.mappings], dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.mappings)

    def find(self, addr: int) -> Mapping | None:
        """The mapping that holds `addr`."""
        if not 0 <= addr < 1 << 64:
            return None
        at = bisect_right(self._bounds, addr) - 1  # 0.3 us; numpy takes 10 for a single number
        if at < 0 or addr >= self.mappings[at].end:
            return None
        return self.mappings[at]

    def owners(self, addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Index of the mapping that holds each address (n,); -1 where none does."""
        if not len(self.mappings):
            return np.full(len(addresses), -1, np.int64)
        at = np.searchsorted(self._starts, addresses, side="right").astype(np.int64) - 1
        inside = (at >= 0) & (addresses < self._ends[np.maximum(at, 0)])
        return np.where(inside, at, -1)


def read_maps(pid: int, proc: Path = Path("/proc")) -> Maps | None:
    """None: the process is gone or may not be read."""
    raw = read_maps_text(pid, proc)
    return parse_maps(raw) if raw is not None else None


def read_maps_text(pid: int, proc: Path = Path("/proc")) -> bytes | None:
    """For `parse_maps`, which takes longer than the reading. None: the process is gone or may not be read."""
    try:
        with (proc / str(pid) / "maps").open("rb") as file:
            return file.read(MAX_MAPS_BYTES)
    except OSError:
        return None


def parse_maps(raw: bytes) -> Maps:
    """Lines that do not look like the kernel's are skipped. Of more than MAX_MAPPINGS those without a file go first."""
    named: list[Mapping] = []
    anonymous: list[Mapping] = []
    for line in raw.split(b"\n"):
        mapping = _parse_line(line)
        if mapping is not None:
            kind = named if mapping.path else anonymous
            if len(kind) < MAX_MAPPINGS:
                kind.append(mapping)
    return Maps(named + anonymous[: MAX_MAPPINGS - len(named)])


def _parse_line(line: bytes) -> Mapping | None:
    fields = line.split(None, 5)
    if len(fields) < 5 or fields[1][2:3] != b"x":
        return None
    try:
        low, high = fields[0].split(b"-")
        major, minor = fields[3].split(b":")
        start, end, offset, inode = int(low, 16), int(high, 16), int(fields[2], 16), int(fields[4])
        dev = os.makedev(int(major, 16), int(minor, 16))
    except (ValueError, OverflowError):
        return None
    if not 0 <= start < end <= 1 << 64 or not 0 <= offset < 1 << 63 or inode < 0:
        return None
    path = b""
    if len(fields) == 6:
        # The kernel pads with spaces up to the path, which may itself end in spaces: cut at its first
        # character.
        path = fields[5]
    deleted = path.startswith(b"/") and path.endswith(_DELETED)
    if deleted:
        path = path[: -len(_DELETED)]
    # Newline is the one character that the kernel escapes here; a backslash stands for itself.
    path = path.replace(b"\\012", b"\n")
    if path.startswith(b"[anon") or path == b"//anon":
        path = b""
    return Mapping(start, end, offset, dev, inode, os.fsdecode(path), deleted)


@functools.lru_cache(1024)
def printable(text: str) -> str:
    """Text from a target, made safe to show: no surrogates, no control characters."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return clean if clean.isprintable() else "".join(c if c.isprintable() else "?" for c in clean)
