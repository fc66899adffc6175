"""How busy a process tree is, by the scheduler's own counts: known before any probe is on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from excise_agent.host import PROC, children_of, list_threads, read_schedstat

MOST_THREADS = 512  # 8 us each


@dataclass(frozen=True, slots=True)
class Activity:
    """Of the threads that were there at both looks: how often they came on a CPU, and CPUs used."""

    switches_hz: float
    cores: float


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a tree; `since` compares with a later one."""

    at_ns: int
    counts: dict[tuple[int, int], tuple[int, int, int]]
    scale: float  # threads for each that was looked at

    @classmethod
    def at(cls, roots: Sequence[int], children: bool, proc: Path = PROC) -> Look:
        """Now, of these trees together."""
        pids = dict.fromkeys(pid for root in roots for pid in (root, *(children_of(root, proc) if children else ())))
        keys = [(pid, tid) for pid in pids for tid in list_threads(pid, proc)]
        step = max(1, -(-len(keys) // MOST_THREADS))
        now_ns = time.monotonic_ns()
        counts = {key: read for key in keys[::step] if (read := read_schedstat(*key, proc=proc)) is not None}
        return cls(now_ns, counts, float(step))

    def again(self, proc: Path = PROC) -> Activity:
        """What they have done since."""
        span_s = max(time.monotonic_ns() - self.at_ns, 1) / 1e9
        switches = running = 0
        for key, before in self.counts.items():
            after = read_schedstat(*key, proc=proc)
            if after is not None:
                running += after[0] - before[0]
                switches += after[2] - before[2]
        return Activity(switches / span_s * self.scale, running / 1e9 / span_s * self.scale)
