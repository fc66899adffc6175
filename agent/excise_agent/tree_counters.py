"""What the host says of a process tree, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from excise.batch import HostSample
from excise_agent.host_counters import PROC, HostCounters, host_sample, read_counters

PORTS_WINDOWS = 6  # listening ports are looked for so seldom: 5 ms a time, and a server keeps them


@dataclass(slots=True)
class TreeCounters:
    """Called at each window's end with who belongs to it then."""

    proc: Path = PROC
    _before: HostCounters | None = None
    _windows: int = 0

    def begin(self, pids: list[int], now_ns: int) -> None:
        """Counts from here on."""
        self._before = read_counters(pids, now_ns, self.proc, ports=False)

    def sample(self, pids: list[int], start_ns: int, end_ns: int, last: bool = False) -> HostSample | None:
        """Since the last call. None in the first window, unless `begin` was called. `last`: ports are looked for."""
        now = read_counters(pids, end_ns, self.proc, ports=last or self._windows % PORTS_WINDOWS == 0)
        self._windows += 1
        before, self._before = self._before, now
        return host_sample(before, now) if before is not None else None
