"""How the probes account for a thread, in plain Python: sched.bpf.h's switch_out, switch_in and close_running.

A history is what a thread did; playing it gives the map's values at any moment, the ring's records, and the truth.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import RAW_SLICE_DTYPE, REC_WAIT, THREAD_DEAD, THREAD_DTYPE, THREAD_SNAPSHOT, WEIGHT_ONE
from excise.ring import Fold
from excise_agent.edges import Edge, edge_of

RUNNING, RUNNABLE, STOLEN = (KERNEL_STATE_ID[s] for s in ("running", "runnable", "stolen"))
WAITS = tuple(i for i, s in enumerate(KERNEL_STATES) if s not in ("running", "runnable", "stolen"))
STOLEN_NS = 50_000
Key = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """A thread runs, then waits in `state` (runnable: it was preempted), is woken, and queues for a CPU.

    `waking`: "after" the switch-out as it should be; "race", a moment before it; "spurious", before it and once more
    when the wait ends. `clock_ns`: by how much the scheduler's clock saw less than the wall's; None: it is not read.
    """

    run_ns: int
    state: int
    wait_ns: int
    delay_ns: int
    waking: str
    syscall: int
    stack: int
    clock_ns: int | None


@dataclass(frozen=True, slots=True)
class History:
    start_ns: int
    snapshot: bool              # it was there before the probes, in the wait of the first phase
    phases: tuple[Phase, ...]
    exits: bool


def histories(wakings: tuple[str, ...], clock: bool) -> st.SearchStrategy[History]:
    spans = st.integers(1, 1000) | st.integers(1, 200_000_000)
    short = st.integers(1, 1000)
    phase = st.builds(
        Phase, spans, st.sampled_from((*WAITS, RUNNABLE)), spans, short, st.sampled_from(wakings),
        st.sampled_from((-1, 0, 202)), st.integers(0, 2),
        st.integers(-40_000, 200_000) if clock else st.none(),
    )
    return st.builds(History, st.integers(1_000_000_000, 1_000_001_000), st.booleans(),
                     st.lists(phase, min_size=1, max_size=6).map(tuple), st.booleans())


@dataclass(slots=True)
class Kernel:
    """A thread as the probes see it: its map entry, the records it made, what it really did."""

    pid: int
    tid: int
    history: History
    value: NDArray[np.void] = field(default_factory=lambda: np.zeros((), THREAD_DTYPE))
    records: list[tuple[int, NDArray[np.void]]] = field(default_factory=list)       # when, what
    truth: list[tuple[int, int, int]] = field(default_factory=list)                 # from, to, state
    seen: list[tuple[int, NDArray[np.void]]] = field(default_factory=list)          # the map entry from then on

    def play(self) -> None:
        """Goes through the whole history, once."""
        v, h = self.value, self.history
        first = h.phases[0]
        now = h.start_ns
        v["pid"], v["born_ns"], v["since_ns"] = self.pid, now, now
        v["state"] = first.state if h.snapshot else RUNNABLE
        v["flags"] = THREAD_SNAPSHOT if h.snapshot else 0
        v["fd"], v["syscall"], v["weight"] = 255, -1, WEIGHT_ONE
        self._see(now)
        for i, phase in enumerate(h.phases):
            if not (i == 0 and h.snapshot):
                now = self._run(now if i else self._first_run(now), phase)
            now = self._wait(now, phase)
        self._switch_in(now)
        if h.exits:
            self.truth.append((now, now + 5, RUNNING))
            self._close_running(now + 5, None)
            v["flags"] |= THREAD_DEAD
            self._see(now + 5)
        else:
            self.truth.append((now, 1 << 62, RUNNING))

    def at(self, now: int) -> NDArray[np.void]:
        """The map's value at `now`."""
        return [value for when, value in self.seen if when <= now][-1]

    def _see(self, now: int) -> None:
        self.seen.append((now, self.value.copy()))

    def _first_run(self, now: int) -> int:
        self.truth.append((now, now + 3, RUNNABLE))
        self._switch_in(now + 3)
        return now + 3

    def _run(self, now: int, phase: Phase) -> int:
        end = now + phase.run_ns
        self.truth.append((now, end, RUNNING))
        if phase.state != RUNNABLE and phase.waking in ("race", "spurious"):
            self._wakeup(max(end - 2, now + 1) if phase.run_ns > 1 else end)
        self._switch_out(end, phase)
        return end

    def _wait(self, now: int, phase: Phase) -> int:
        """Returns when it is switched in."""
        if phase.state == RUNNABLE or (phase.waking == "race" and self.value["wake_ns"] > self.value["in_ns"]):
            self.truth.append((now, now + phase.delay_ns, RUNNABLE))
            back = now + phase.delay_ns
        else:
            woken = now + phase.wait_ns
            self._wakeup(woken)
            back = woken + phase.delay_ns
            self.truth += [(now, woken, phase.state), (woken, back, RUNNABLE)]
        if phase is not self.history.phases[-1]:
            self._switch_in(back)
        return back

    def _wakeup(self, now: int) -> None:
        self.value["wake_ns"], self.value["waker"] = now, 99
        self._see(now)

    def _thread_close(self, now: int) -> None:
        v = self.value
        if now > v["since_ns"]:
            self._add(int(v["state"]), now - int(v["since_ns"]))
        v["since_ns"] = now

    def _add(self, state: int, ns: int) -> None:
        self.value["state_ns"].view(np.int64)[state] += ns  # as in C, a sum may go below zero and come back

    def _close_running(self, now: int, clock_ns: int | None) -> None:
        v = self.value
        if clock_ns is None:
            self._thread_close(now)
            return
        wall = now - int(v["since_ns"])
        ran, waited = max(wall - clock_ns, 0), int(v["last_delay_ns"]) + 7
        if int(v["state"]) != RUNNING or not v["in_ns"] or ran > wall + STOLEN_NS:
            self._thread_close(now)
            return
        rest = wall + int(v["last_delay_ns"]) - ran - waited
        before = STOLEN if rest > STOLEN_NS else int(v["last_state"])
        self._add(RUNNING, ran)
        self._add(RUNNABLE, waited - int(v["last_delay_ns"]))
        self._add(before, rest)
        v["since_ns"] = now

    def _switch_out(self, now: int, phase: Phase) -> None:
        v = self.value
        self._close_running(now, phase.clock_ns)
        v["state"], v["syscall"], v["stack"], v["fd"] = phase.state, phase.syscall, phase.stack, 255
        self._see(now)

    def _switch_in(self, now: int) -> None:
        v = self.value
        record = np.zeros((), RAW_SLICE_DTYPE)
        record["type"], record["tid"], record["ts_ns"] = REC_WAIT, self.tid, now
        for name in ("pid", "state", "fd_class", "syscall", "port", "fd", "stack", "ip"):
            record[name] = v[name]
        record["flags"], record["weight"] = v["wait_flags"], WEIGHT_ONE
        if v["state"] == RUNNING:
            record["state"] = v["state"] = RUNNABLE
        since, woken = int(v["since_ns"]), int(v["wake_ns"])
        if v["state"] != RUNNABLE and woken > v["in_ns"]:
            woken = min(max(woken, since), now)
            record["waker"] = v["waker"]
            record["value_ns"], record["runnable_ns"] = woken - since, now - woken
            self._thread_close(woken)
            self._add(RUNNABLE, now - woken)
            v["since_ns"] = now
        else:
            record["value_ns"] = max(now - since, 0)
            self._thread_close(now)
        v["in_ns"] = now
        v["last_state"] = record["state"]
        v["last_delay_ns"] = record["value_ns"] if record["state"] == RUNNABLE else record["runnable_ns"]
        v["state"] = RUNNING
        self._see(now)
        self.records.append((now, record))


@dataclass(frozen=True, slots=True)
class Window:
    """Totals by thread, (KERNEL_STATES,) ns; folded rows by what they are, the waker aside: value_ns, runnable_ns."""

    totals: dict[int, NDArray[np.int64]]
    rows: dict[Key, tuple[int, int]]


def edge_at(kernels: list[Kernel], now: int) -> Edge:
    tids = np.array([k.tid for k in kernels], np.uint32)
    return edge_of(tids, np.array([k.at(now) for k in kernels], THREAD_DTYPE), now)


def window(kernels: list[Kernel], start: int, end: int) -> Window:
    """As a session on a live host makes one: the open waits of both edges folded with the records between."""
    begun, ended, fold = edge_at(kernels, start), edge_at(kernels, end), Fold(256, 8)
    assert fold.add(begun.open_keys, -begun.open_sums) == 0
    between = [record for k in kernels for when, record in k.records if start < when <= end]
    words = np.array(between, RAW_SLICE_DTYPE).view(np.uint64).reshape(len(between), RAW_SLICE_DTYPE.itemsize // 8)
    sums = np.stack([np.ones(len(words), np.int64), *words[:, 4:6].T.astype(np.int64)], axis=1)
    assert fold.add(np.ascontiguousarray(words[:, [0, 1, 2, 6, 7, 8]]), sums) == 0
    assert fold.add(ended.open_keys, ended.open_sums) == 0
    rows: defaultdict[Key, list[int]] = defaultdict(lambda: [0, 0])
    for row, total in zip(*fold.take_rows(), strict=True):
        key = tuple(int(row[name]) for name in row.dtype.names if name not in ("waker", "pad"))
        rows[key][0] += int(total[1])
        rows[key][1] += int(total[2])
    totals = {int(t): e - b for t, b, e in zip(ended.tids, begun.state_ns, ended.state_ns, strict=True)}
    return Window(totals, {k: (a, b) for k, (a, b) in rows.items() if a or b})


def summed(windows: list[Window]) -> Window:
    totals: defaultdict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(KERNEL_STATES), np.int64))
    rows: defaultdict[Key, list[int]] = defaultdict(lambda: [0, 0])
    for w in windows:
        for tid, state_ns in w.totals.items():
            totals[tid] = totals[tid] + state_ns
        for key, (a, b) in w.rows.items():
            rows[key][0] += a
            rows[key][1] += b
    return Window(dict(totals), {k: (a, b) for k, (a, b) in rows.items() if a or b})


def true_ns(kernel: Kernel, start: int, end: int) -> NDArray[np.int64]:
    """What the thread really did between two moments."""
    out = np.zeros(len(KERNEL_STATES), np.int64)
    for since, until, state in kernel.truth:
        out[state] += max(min(until, end) - max(since, start), 0)
    return out
