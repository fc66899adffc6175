"""Whether a process maps a model runtime, by the base names in /proc/PID/maps."""

from __future__ import annotations

import os
import re
from fnmatch import translate
from pathlib import Path
from typing import Final, Literal

from excise_agent.maps import printable

MAX_BYTES: Final = 16 << 20  # of one process; 65530 mappings (vm.max_map_count) of 256 bytes
_CHUNK: Final = 1 << 16
_MOST_NAMES: Final = 8192  # remembered; 300 processes of a server map 700 different files
# Address, permissions, offset, device, inode, path. The kernel writes a newline in a path as \012, and names that a
# process gives to its anonymous memory in brackets.
_BASE_NAME: Final = re.compile(rb"^\S+ \S+ \S+ \S+ \S+ +/(?:[^\n]*/)?([^/\n]+)$", re.MULTILINE)


class Libraries:
    """The configured patterns. What was once compared is remembered."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        alternatives = "|".join(translate(pattern) for pattern in patterns)
        self._pattern = re.compile(os.fsencode(alternatives) if patterns else rb"(?!)")
        self._known: dict[bytes, bool] = {}

    def find(self, lines: bytes) -> str | None:
        """The first of whole lines of maps that is one, as it may be shown."""
        for name in dict.fromkeys(_BASE_NAME.findall(lines)):
            if (fits := self._known.get(name)) is None:
                if len(self._known) >= _MOST_NAMES:
                    self._known.clear()
                fits = self._known[name] = self._pattern.match(name.removesuffix(b" (deleted)")) is not None
            if fits:
                return printable(os.fsdecode(name.removesuffix(b" (deleted)")))[:128]
        return None


Outcome = Literal["found", "none", "more", "gone", "denied"]


class MapsScan:
    """One reading of a process's maps, a bounded piece at a time: a process may have 10 MB of them."""

    def __init__(self, pid: int, libraries: Libraries, proc: Path) -> None:
        self._libraries = libraries
        self._left = b""
        self.read_bytes = 0
        self.library = ""  # once the outcome is "found"
        self.outcome: Outcome = "more"
        self._fd = -1
        try:
            self._fd = os.open(f"{proc}/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            self.outcome = "denied"
        except OSError:
            self.outcome = "gone"

    def read(self, most_bytes: int) -> Outcome:
        """Goes on until the outcome is known or so much was read."""
        end = self.read_bytes + most_bytes
        while self.outcome == "more" and self.read_bytes < end:
            self.outcome = self._step()
        if self.outcome != "more":
            self.close()
        return self.outcome

    def _step(self) -> Outcome:
        try:
            piece = os.read(self._fd, _CHUNK)
        except PermissionError:
            return "denied"
        except OSError:
            return "gone"
        self.read_bytes += len(piece)
        lines, _, left = (self._left + piece).rpartition(b"\n")
        if not piece:
            lines, left = left, b""
        self._left = left if len(left) < _CHUNK else b""
        if name := self._libraries.find(lines):
            self.library = name
            return "found"
        return "more" if piece and self.read_bytes < MAX_BYTES else "none"

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
