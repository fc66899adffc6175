"""Which processes have their maps read, and when: reading them is the dear part.

A mapping adds to the address space. So the maps of a process are read when it is new, at once when its address space
has outgrown all that was searched before, and when there is time to spare after any other change. What counts as time
is bytes: a byte of maps costs 9 ns to read and to search, on any host so far between 5 and 15.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from excise_agent.discovery.libraries import Libraries, MapsScan
from excise_agent.discovery.table import Known

GROWTH_BYTES: Final = 1 << 20  # the smallest runtime, libggml with its parts, is 2 MB
AT_ONCE_BYTES: Final = 4 << 20  # of maps a look, of new processes and of those that grew; 40 ms at most
IN_PASSING_BYTES: Final = 8 << 10  # of maps a look, after other changes; 0.1 ms, and one is always read to its end
PIECE_BYTES: Final = 1 << 20  # of one process a look, 10 ms
# After a process's maps were read they are left alone for as long as keeps it below 0.2 % of a CPU: 100 lines 0.05 s,
# 3 600 lines 1.8 s. Only those with more may wait longer than two seconds.
REST_S_PER_BYTE: Final = 5e-6
MOST_REST_S: Final = 10.0


@dataclass(slots=True)
class SearchCounts:
    searches: int = 0
    read_bytes: int = 0
    denied: int = 0  # maps that may not be read: the agent lacks CAP_SYS_PTRACE


class Search:
    """The queue of processes that are to be searched, the longest waiting first."""

    def __init__(self, libraries: Libraries, proc: Path) -> None:
        self._libraries = libraries
        self._proc = proc
        self._queue: dict[int, Known] = {}
        self.counts = SearchCounts()

    def ask(self, known: Known) -> None:
        self._queue.setdefault(known.pid, known)

    def drop(self, known: Known) -> None:
        if self._queue.get(known.pid) is known:
            del self._queue[known.pid]

    def due(self, now: float) -> list[Known]:
        """Those whose turn it is. The rest stays in the queue."""
        at_once, in_passing = AT_ONCE_BYTES, IN_PASSING_BYTES
        due: list[Known] = []
        for known in self._queue.values():
            cost = _expected_bytes(known)
            if now < known.next_read:
                continue
            if _is_urgent(known):
                if at_once > 0:
                    at_once -= cost
                    due.append(known)
            elif in_passing > 0:
                in_passing -= cost
                due.append(known)
        for known in due:
            del self._queue[known.pid]
        return due

    def read(self, known: Known, now: float) -> str:
        """The library that it maps; "": none, or not known yet. A long one goes on in the next look."""
        scan = known.scan or MapsScan(known.pid, self._libraries, self._proc)
        before = scan.read_bytes
        outcome = scan.read(PIECE_BYTES)
        self.counts.read_bytes += scan.read_bytes - before
        if outcome == "more":
            known.scan = scan
            self.ask(known)
            return ""
        known.scan = None
        self.counts.searches += 1
        known.peak_bytes = known.size_bytes if known.size_bytes < known.peak_bytes // 2 else max(
            known.peak_bytes, known.size_bytes
        )
        known.maps_bytes = scan.read_bytes
        known.next_read = now + min(scan.read_bytes * REST_S_PER_BYTE, MOST_REST_S)
        known.unreadable = outcome == "denied"
        self.counts.denied += known.unreadable
        return scan.library


def _is_urgent(known: Known) -> bool:
    """It has grown beyond what was searched, or so much smaller that it is another program (exec)."""
    return (
        known.scan is not None
        or known.size_bytes >= known.peak_bytes + GROWTH_BYTES
        or known.size_bytes < known.peak_bytes // 2
    )


def _expected_bytes(known: Known) -> int:
    return max(4096, PIECE_BYTES if known.scan is not None else min(known.maps_bytes, PIECE_BYTES))
