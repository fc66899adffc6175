"""A session: items in, a report out. The same live and replayed.

Slices are kept folded (rows alike in all but time are one), so memory grows with the variety of what was seen and not
with its length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, Definitions, End, Header, HostSample, Item, Totals
from excise.frames import Frame, Process, Stack, Thread
from excise.names import KERNEL_STATES
from excise.stages import Rules

_COMPACT_ROWS = 200_000
_KEY_FIELDS = ("pid", "tid", "state", "flags", "syscall", "fd_class", "fd", "port", "stack")
_SUM_FIELDS = ("count", "weight_ns", "runnable_ns")
_COUNTERS = ("throttled_ns", "_read_bytes", "_write_bytes", "_in_bytes", "_out_bytes")  # a HostSample's; others: gauges


def fold_slices(slices: NDArray[np.void]) -> NDArray[np.void]:
    """Rows that differ in time or waker only become one; sums are exact."""
    if len(slices) == 0:
        return slices
    keys = np.zeros(len(slices), [(n, SLICE_DTYPE[n]) for n in _KEY_FIELDS])
    for name in _KEY_FIELDS:
        keys[name] = slices[name]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    out = slices[first].copy()
    out["waker"] = 0
    for name in _SUM_FIELDS:
        sums = np.zeros(len(first), np.int64)
        np.add.at(sums, inverse, slices[name].astype(np.int64))
        out[name] = sums
    return out


class Session:
    """Feed it a stream of items; ask for the report at any time."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.header: Header | None = None
        self.end: End | None = None
        self.frames: list[Frame] = []
        self.stacks: list[Stack] = [()]
        self.processes: dict[int, Process] = {}
        self.threads: dict[int, Thread] = {}
        self.totals: dict[tuple[int, int], NDArray[np.void]] = {}
        self.lost: dict[str, int] = {}
        self.host: dict[str, Any] = {}
        self.start_ns = 0
        self.stop_ns = 0
        self._slices: list[NDArray[np.void]] = []
        self._rows = 0

    def feed(self, item: Item) -> None:
        """Takes one item of the stream, in order."""
        match item:
            case Header():
                self.header = item
                self.start_ns = self.stop_ns = item.start_mono_ns
            case Definitions():
                self._define(item)
            case Batch():
                self._take_slices(item.slices)
                for name, count in item.lost.items():
                    self.lost[name] = self.lost.get(name, 0) + count
            case Totals():
                self._take_totals(item)
            case HostSample():
                self._take_host(item.values)
            case End():
                self.end = item

    def slices(self) -> NDArray[np.void]:
        """All slices so far, folded: SLICE_DTYPE (n,), with `waker` zero."""
        if not self._slices:
            return np.zeros(0, SLICE_DTYPE)
        folded = fold_slices(np.concatenate(self._slices))
        self._slices = [folded]
        self._rows = len(folded)
        return folded

    def _define(self, item: Definitions) -> None:
        self.frames.extend(item.frames)
        self.stacks.extend(item.stacks)
        for process in item.processes:
            self.processes[process.pid] = process
        for thread in item.threads:
            known = self.threads.get(thread.tid)
            if known is not None and known.pid == thread.pid and known.carrier and not thread.carrier:
                thread = Thread(thread.tid, thread.pid, thread.name, carrier=True)
            self.threads[thread.tid] = thread

    def _take_slices(self, slices: NDArray[np.void]) -> None:
        self._slices.append(slices)
        self._rows += len(slices)
        if self._rows > _COMPACT_ROWS:
            self.slices()

    def _take_totals(self, item: Totals) -> None:
        self.stop_ns = max(self.stop_ns, item.end_ns)
        for row in item.rows:
            key = (int(row["pid"]), int(row["tid"]))
            known = self.totals.get(key)
            if known is None:
                self.totals[key] = row.copy()
                continue
            known["state_ns"] += row["state_ns"]
            known["lifetime_ns"] += row["lifetime_ns"]
            for name in ("sched_running_ns", "sched_runnable_ns"):
                known[name] = known[name] + row[name] if known[name] >= 0 and row[name] >= 0 else -1

    def _take_host(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            before = self.host.get(name)
            if name in self.host and name.endswith(_COUNTERS):
                self.host[name] = None if value is None or before is None else before + value
            elif name == "listen_ports":
                self.host[name] = sorted(set(before or ()) | set(value or ()))
            else:
                self.host[name] = value

    def totals_array(self) -> NDArray[np.void]:
        """Exact totals, TOTALS_DTYPE (T,), one row a thread."""
        out = np.zeros(len(self.totals), TOTALS_DTYPE)
        for i, row in enumerate(self.totals.values()):
            out[i] = row
        return out


assert TOTALS_DTYPE["state_ns"].shape == (len(KERNEL_STATES),)
