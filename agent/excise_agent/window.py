"""The exact totals of one window: the kernel's sums at its two edges, and of the threads that ended between them.

What is open at an edge is split there: its elapsed part is a row of the earlier window and taken off the later one,
where it comes with the wait's own record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from excise.batch import TOTALS_DTYPE
from excise.records import THREAD_WAS_RUNNABLE
from excise.ring import Fold
from excise_agent.edges import RUNNABLE, RUNNING, Edge, open_row

ThreadKey = tuple[int, int]  # pid, tid
Scheds = dict[ThreadKey, tuple[int, int, int]]  # running, runnable ns, slices: the scheduler's own counts


@dataclass(slots=True)
class Window:
    """`fold` takes the rows of what is open at the edges. Opened with an edge and closed with the next one."""

    fold: Fold
    start_ns: int = 0
    _sched: Scheds = field(default_factory=dict)
    _base: dict[ThreadKey, NDArray[np.int64]] = field(default_factory=dict)
    _dead: dict[ThreadKey, NDArray[np.int64]] = field(default_factory=dict)
    _unsure: dict[ThreadKey, int] = field(default_factory=dict)

    def open(self, edge: Edge, sched: Scheds) -> None:
        """Begins at this edge."""
        self.start_ns, self._sched = edge.now_ns, sched
        self.fold.add(edge.open_keys, -edge.open_sums)
        threads = list(zip(edge.pids.tolist(), edge.tids.tolist(), strict=True))
        self._base = {key: state_ns.copy() for key, state_ns in zip(threads, edge.state_ns, strict=True)}
        self._unsure = {}
        for i in np.flatnonzero(edge.unsure_ns).tolist():
            if edge.flags[i] & THREAD_WAS_RUNNABLE:  # settled at this edge: in the totals as runnable already
                self.fold.add(*open_row(*threads[i], RUNNABLE, -int(edge.unsure_ns[i])))
            else:
                self._unsure[threads[i]] = int(edge.unsure_ns[i])
        self._dead.clear()

    def bury(self, key: ThreadKey, state_ns: NDArray[np.int64], flags: int) -> None:
        """A thread that leaves the kernel's map before the window ends: its totals stay."""
        self.settle(key, flags)
        self._dead[key] = self._dead.get(key, 0) + state_ns

    def settle(self, key: ThreadKey, flags: int) -> None:
        """A thread that the snapshot took for running had no CPU: its time before the window was of the other state."""
        unsure_ns = self._unsure.pop(key, 0)
        if unsure_ns and flags & THREAD_WAS_RUNNABLE:
            self._base[key][RUNNING] -= unsure_ns
            self._base[key][RUNNABLE] += unsure_ns
            self.fold.add(*open_row(*key, RUNNABLE, -unsure_ns))

    def settle_unsure(self, edge: Edge, sched: Scheds) -> None:
        """A thread that did not switch all the time either ran or starved: the scheduler knows (its tick counts it)."""
        for i in np.flatnonzero(edge.unsure_ns).tolist():
            key = int(edge.pids[i]), int(edge.tids[i])
            end, begun, unsure_ns = sched.get(key), self._sched.get(key), int(edge.unsure_ns[i])
            if end is None or begun is None or 2 * (end[0] - begun[0]) > edge.now_ns - self.start_ns:
                continue
            edge.state_ns[i, RUNNING] -= unsure_ns
            edge.state_ns[i, RUNNABLE] += unsure_ns
            self.fold.add(*open_row(*key, RUNNABLE, unsure_ns))
            edge.flags[i] |= THREAD_WAS_RUNNABLE

    def close(self, edge: Edge, sched: Scheds) -> NDArray[np.void]:
        """TOTALS_DTYPE (threads,) up to this edge. The rows of what is open there are the caller's to add."""
        at_end = dict(self._dead)
        for pid, tid, state_ns in zip(edge.pids.tolist(), edge.tids.tolist(), edge.state_ns, strict=True):
            at_end[pid, tid] = at_end.get((pid, tid), 0) + state_ns
        out = np.zeros(len(at_end), TOTALS_DTYPE)
        for row, (key, state_ns) in zip(out, at_end.items(), strict=True):
            row["pid"], row["tid"] = key
            row["state_ns"] = state_ns - self._base.get(key, 0)
            row["lifetime_ns"] = int(row["state_ns"].sum())
            end, start = sched.get(key), self._sched.get(key, None if key in self._base else (0, 0, 0))
            known = end is not None and start is not None
            row["sched_running_ns"] = end[0] - start[0] if known else -1  # type: ignore[index]
            row["sched_runnable_ns"] = end[1] - start[1] if known else -1  # type: ignore[index]
        return out
