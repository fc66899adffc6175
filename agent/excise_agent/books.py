"""The open window of a watch, and the switch hooks that fill it: on all the time, or in phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from excise.records import THREAD_DEAD, THREAD_RENUMBERED
from excise_agent.collectors.bpf import BpfCollector
from excise_agent.duty import Duty
from excise_agent.edges import Edge, take_edge, wait_keys
from excise_agent.host import read_schedstat
from excise_agent.loader import Probes
from excise_agent.phases import PhasedWindow
from excise_agent.targets import Targets
from excise_agent.window import Scheds, Window

EDGE_TRIES, EDGE_NS, EDGE_THREAD_NS = 5, 500_000, 20_000  # 8 us a thread, measured, when nothing comes between
MOST_LOOKS = 8  # threads whose stack is walked from here after a phase: 0.3 ms each

Pump = Callable[[int], None]
"""Takes what is in the ring up to this moment (CLOCK_MONOTONIC ns; 0: all of it)."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A window that was closed: `totals` TOTALS_DTYPE (threads,) between its edges."""

    start_ns: int
    edge: Edge
    sched: Scheds
    totals: NDArray[np.void]


class Books:
    """Exactly one window is open from `begin` on. `close` and then `open` make the next one."""

    def __init__(self, probes: Probes, collector: BpfCollector, targets: Targets, pump: Pump) -> None:
        self._probes, self._collector, self._targets, self._pump = probes, collector, targets, pump
        self._window = Window(collector.fold)
        self._phases = PhasedWindow(targets.look)
        self._duty: Duty | None = None  # while the hooks are on for a part of the time only
        self.start_ns = 0

    # -- windows

    def begin(self) -> Edge:
        """The first window: what ended before it is not of it."""
        self._discard()
        edge, sched = self._take_edge()
        self.open(edge, sched)
        if self._duty is not None:
            self._duty.start(time.monotonic_ns())
        return edge

    def close(self) -> Closed:
        """Ends the window now: its rows are in the fold afterwards, those of what is open included."""
        if self._duty is not None and self._duty.on:
            self._end_phase()
        edge, sched = self._take_edge()
        if self._duty is None:
            self._window.settle_unsure(edge, sched)
        self._pump(edge.now_ns)
        self._collector.fold.add(edge.open_keys, edge.open_sums)
        if self._duty is None:
            for i, key in enumerate(edge.keys()):
                self._window.settle(key, int(edge.flags[i]))
            totals = self._window.close(edge, sched)
        else:
            totals = self._phases.close(edge, sched)
        return Closed(self.start_ns, edge, sched, totals)

    def open(self, edge: Edge, sched: Scheds) -> None:
        """Begins the next window where one was closed, once its rows were taken."""
        self.start_ns = edge.now_ns
        if self._duty is None:
            self._window.open(edge, sched)
        else:
            self._phases.open(edge, sched)

    def edge(self) -> Edge:
        """The kernel's totals now."""
        return take_edge(self._probes.maps["threads"], time.monotonic_ns(), int(self._probes.control["phase"][0]))

    def bury_dead(self, edge: Edge, settled: Collection[int] = ()) -> list[int]:
        """Keeps the totals of threads that have ended. Indices into the edge: they may leave the kernel's map.

        A thread whose end was not traced ends with its process, one of `settled`.
        """
        ended = (edge.flags & THREAD_DEAD != 0) | (edge.stale & (edge.values["end_ns"] > 0))
        ended |= np.isin(edge.pids, list(settled))
        dead: list[int] = np.flatnonzero(ended).tolist()
        for i in dead:
            key = int(edge.pids[i]), int(edge.tids[i])
            if self._duty is None:
                self._window.bury(key, edge.state_ns[i], int(edge.flags[i]))
            else:
                self._phases.bury(key, edge, i)
        return dead

    # -- the hooks

    @property
    def phased(self) -> bool:
        """Whether the hooks are on for a part of the time only."""
        return self._duty is not None

    @property
    def turn_ns(self) -> int | None:
        """When `turn` has something to do; None: never."""
        return self._duty.next_ns if self._duty is not None else None

    def turn(self) -> None:
        """Puts the hooks on or takes them out, when it is time."""
        duty, now = self._duty, time.monotonic_ns()
        if duty is None or now < duty.next_ns:
            return
        if duty.on:
            self._end_phase()
        else:
            self._probes.switch_on(now)
            duty.turned(True, now)

    def begin_phased(self, duty_ratio: float) -> None:
        """Before `begin`: the tree was looked at with the hooks on, from here on they are on in phases."""
        self._probes.switch_off()
        self._duty = Duty(duty_ratio)

    def go_phased(self, duty_ratio: float, edge: Edge, sched: Scheds) -> None:
        """From this edge on. What was open there will not come whole, so nothing of it is taken off."""
        self.begin_phased(duty_ratio)
        self._discard()
        self.open(edge, sched)
        assert self._duty is not None
        self._duty.start(edge.now_ns)

    def set_duty(self, duty_ratio: float) -> None:
        """Another share of the time, from the next period on."""
        if self._duty is not None:
            self._duty.ratio = duty_ratio

    def go_exact(self) -> None:
        """From phases to an exact window. Threads are looked at as at the start: what they do now is not known."""
        self._probes.switch_on(time.monotonic_ns())
        edge = self.edge()
        keys = edge.keys()
        gone = set(self.bury_dead(edge))
        self._targets.snapshot_again([keys[i] for i in np.flatnonzero(edge.stale).tolist() if i not in gone])
        self._duty = None
        self.open(*self._take_edge())

    def _end_phase(self) -> None:
        """What was open is cut at the moment before the hooks are taken out."""
        assert self._duty is not None
        now = time.monotonic_ns()
        self._probes.switch_off()
        edge = take_edge(self._probes.maps["threads"], now, int(self._probes.control["phase"][0]))
        self._pump(now)
        self._collector.fold.add(edge.open_keys, edge.open_sums)
        phase_ns = now - self._duty.on_since_ns
        same, unknown = self._phases.end_phase(edge, self._schedstats(edge), phase_ns)
        if same:  # what waits on gives no record: it has its part of the phase as those that do
            sums = np.zeros((len(same), 3), np.int64)
            sums[:, 1] = phase_ns
            self._collector.fold.add(wait_keys(edge.tids[same], edge.values[same]), sums)
        keys = edge.keys()
        for i in unknown[:MOST_LOOKS]:  # in a wait that began unseen: the next phase has its stack
            self._targets.snapshot_again([keys[i]])
            self._phases.looked_at_again(keys[i])
        self._duty.turned(False, time.monotonic_ns())

    # -- edges

    def _discard(self) -> None:
        self._pump(0)
        self._collector.fold.take_rows()

    def _take_edge(self) -> tuple[Edge, Scheds]:
        """The totals and the scheduler's own, of one moment: taken again when we lost the CPU between the two."""
        for _ in range(EDGE_TRIES):
            edge = self.edge()
            sched = self._schedstats(edge)
            if time.monotonic_ns() - edge.now_ns < EDGE_NS + EDGE_THREAD_NS * len(edge.tids):
                break
        return edge, sched

    def _schedstats(self, edge: Edge) -> Scheds:
        """The scheduler's counts by thread as of the edge, a wait for a CPU that is open there as far as it got."""
        read: Scheds = {}
        for pid, tid, flags in zip(edge.pids.tolist(), edge.tids.tolist(), edge.flags.tolist(), strict=True):
            if flags & THREAD_RENUMBERED:  # the kernel's clock is of the thread that has the number now
                continue
            counts = read_schedstat(pid, tid)
            if counts is not None:
                read[pid, tid] = counts
        waiting = np.flatnonzero(edge.open_runnable_ns)
        if len(waiting):
            later = self.edge()
            came_on = dict(zip(later.keys(), later.values["in_ns"].tolist(), strict=True))
            keys = edge.keys()
            for i in waiting.tolist():
                key, open_ns = keys[i], int(edge.open_runnable_ns[i])
                if key in read:
                    # the scheduler adds a wait when it ends: it may have ended between the edge and the reading
                    since_ns = came_on.get(key, 0) - edge.now_ns
                    running, runnable, slices = read[key]
                    read[key] = running, runnable - since_ns if since_ns > 0 else runnable + open_ns, slices
        return read
