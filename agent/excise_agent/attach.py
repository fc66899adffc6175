"""Watches a process tree on this host and sends the stream of items: to a session, to a recording, or both."""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise import __version__
from excise.batch import (
    TOTALS_DTYPE,
    Batch,
    End,
    Header,
    Item,
    Totals,
)
from excise.names import DROPS
from excise.records import (
    TASK_EXEC,
    THREAD_CARRIER,
    THREAD_DEAD,
    THREAD_RENUMBERED,
    THREAD_WAS_RUNNABLE,
)
from excise_agent.calibrate import tick_cost_ns
from excise_agent.collectors.bpf import BpfCollector, StackRecord, TaskRecord
from excise_agent.demangle import prepare_demangler
from excise_agent.edges import RUNNABLE, RUNNING, Edge, open_row, take_edge
from excise_agent.footprint import give_back, prepare_footprint
from excise_agent.host import describe_host, read_allowed_cpus, read_boot_id, read_schedstat
from excise_agent.host_counters import host_sample, read_counters
from excise_agent.interner import Interner
from excise_agent.loader import Probes, Sizes
from excise_agent.namer import Namer
from excise_agent.pool_owner import PoolOwners
from excise_agent.targets import EXEC_POLL_NS, Targets

BATCH_S = 1.0
FIRST_TOTALS_NS = 900_000_000
TOTALS_NS = 10_000_000_000  # windows of a long watch: what a crash can take with it
QUIET_DRAIN_S = 0.2  # while no new stack and no new process comes; code that is to be named may be freed meanwhile
DRAIN_S = 0.1  # 2 MB hold 26 000 records: enough for 100 ms of 260 000 records/s
MIN_DRAIN_S = 0.005
EDGE_TRIES, EDGE_NS, EDGE_THREAD_NS = 5, 500_000, 20_000  # 8 us a thread, measured, when nothing comes between
JITTER = 0.2  # the sampling period varies by this share, so that it cannot lock on to a loop
JITTER_S = 0.3  # how often it varies: setting a period costs 65 us, an interrupt on that CPU
JITTER_CPUS = 16  # of at most this many CPUs each time


@dataclass(frozen=True, slots=True)
class Options:
    """`rate_hz` samples per second and CPU."""

    pid: int
    duration_s: float | None = 10.0
    rate_hz: float = 99.0
    children: bool = True
    sizes: Sizes = field(default_factory=Sizes)


class Watch:
    """One attachment. `start` puts the probes on, `run` watches, `close` leaves nothing behind."""

    def __init__(
        self, options: Options, sink: Callable[[Item], None], notice: Callable[[str], None] = lambda _: None
    ) -> None:
        self.options = options
        self._sink = sink
        self._notice = notice
        self._interner = Interner()
        self._names = Namer(self._interner)
        self._pools = PoolOwners()
        self._dead: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._target_ns = self._windows = 0
        self._sched: dict[tuple[int, int], tuple[int, int]] = {}
        self._lost = dict.fromkeys(DROPS, 0)
        self._unknown_records = 0
        self._batch_ns = self._window_ns = 0
        self._jitter = random.Random()
        self._news = False  # whether the last look brought a new stack or process
        self._next_jitter_ns = self._jittered = 0
        self._stop_r, self._stop_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._probes: Probes | None = None
        self.overhead: dict[str, Any] = {}

    # -- life

    def start(self) -> None:
        """Loads, attaches, finds the tree. Raises LoadError or OSError with the way out in the text."""
        options = self.options
        self._pidfd = os.pidfd_open(options.pid)
        prepare_footprint()
        prepare_demangler()
        self._probes = Probes.load(options.sizes, self._notice)
        self._collector = BpfCollector(self._probes)
        self._targets = Targets(self._probes, self._names.python, self._interner, options.children)
        self._names.prepare(kernel=options.rate_hz > 0)
        self._probes.attach()
        self._targets.add_tree(options.pid)
        for hash_, (pid, frames) in self._targets.take_chains().items():
            self._names.name_chain(hash_, pid, frames)
        self._names.preload(self._targets.pids())
        give_back()
        cpus = sorted(
            set().union(*(read_allowed_cpus(pid) or () for pid in self._targets.pids())) or os.sched_getaffinity(0)
        )
        self._period_ns = round(1e9 / options.rate_hz) if options.rate_hz > 0 else 0
        self._tick_ns = tick_cost_ns() if self._period_ns else 0.0
        root = self._targets.process(options.pid)
        self._send_header(root.comm if root else "")
        now = self._begin_window()
        if self._period_ns:
            self._probes.start_timers(cpus, self._period_ns)
        self._start_ns = now
        times = os.times()
        self.overhead["startup_cpu_s"] = round(sum(times[:4]), 3)  # imports and children included
        self._cpu_at_start = times.user + times.system
        self._costs_at_start = self._probes.costs()

    def stop(self) -> None:
        """Ends `run` early; safe in a signal handler."""
        os.write(self._stop_w, b"x")

    def run(self, progress: Callable[[float, int, int], None] = lambda *_: None) -> None:
        """Watches until the duration is over, `stop` was called or all processes have ended, and sends the end.

        `progress(elapsed_s, samples, waits)` is called about once a second.
        """
        wait_s, next_batch, samples, waits = DRAIN_S, time.monotonic() + BATCH_S, 0, 0
        deadline = None if self.options.duration_s is None else self._start_ns / 1e9 + self.options.duration_s
        reason = "duration"
        wakers = [self._stop_r, self._pidfd]
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            if self._targets.execs_pending():
                wait_s = min(wait_s, EXEC_POLL_NS / 1e9)
            timeout = wait_s if deadline is None else min(wait_s, deadline - now)
            ready, _, _ = select.select(wakers, [], [], max(timeout, 0))
            backlog = self._backlog()
            self._pump()
            if self._stop_r in ready:
                reason = "interrupted"
                break
            if self._pidfd in ready:  # the root has ended; others of its tree may go on
                wakers.remove(self._pidfd)
            if self._pidfd not in wakers and not self._anyone_left():
                reason = "target exited"
                break
            most_s = DRAIN_S if self._news else QUIET_DRAIN_S
            wait_s = max(MIN_DRAIN_S, wait_s / 2) if backlog > 0.25 else min(most_s, wait_s * 1.5)
            if time.monotonic() >= next_batch:
                next_batch += BATCH_S
                s, w = self._send_batch()
                samples, waits = samples + s, waits + w
                self._housekeeping()
                if time.monotonic_ns() - self._window_ns > (TOTALS_NS if self._windows else FIRST_TOTALS_NS):
                    self._close_window()
                progress(time.monotonic() - self._start_ns / 1e9, samples, waits)
        self._end_window()
        self._send_end(reason)

    def close(self) -> None:
        """Takes everything out of the kernel. May be called twice, and after a failed start."""
        if self._probes is not None:
            self._probes.close()
            self._probes = None
        self._names.close()
        self._pools.close()
        for fd in (self._stop_r, self._stop_w, getattr(self, "_pidfd", -1)):
            if fd >= 0:
                os.close(fd)
        self._stop_r = self._stop_w = self._pidfd = -1

    # -- the loop's parts

    def _backlog(self) -> float:
        ring = self._probes.ring if self._probes else None
        return ring.backlog() / ring.size if ring else 0.0

    def _anyone_left(self) -> bool:
        self._targets.mark_ended()
        return bool(self._targets.pids())

    def _pump(self, until_ns: int = 0) -> None:
        self._news = False
        for record in self._collector.drain(until_ns):
            self._news |= record is not None
            if record is None:
                self._send_batch()
            elif isinstance(record, StackRecord):
                self._names.name_stack(record)
            else:
                self._on_task(record)
        now = time.monotonic_ns()
        self._targets.poll_execs(now)
        if self._period_ns and now >= self._next_jitter_ns:
            self._next_jitter_ns = now + int(JITTER_S * 1e9)
            self._vary_periods()

    def _vary_periods(self) -> None:
        probes = self._probes
        if probes is None or not probes.timers:
            return
        cpus = list(probes.timers)
        for i in range(self._jittered, self._jittered + min(len(cpus), JITTER_CPUS)):
            period_ns = round(self._period_ns * self._jitter.uniform(1 - JITTER, 1 + JITTER))
            probes.set_period(cpus[i % len(cpus)], period_ns)
        self._jittered = (self._jittered + JITTER_CPUS) % len(cpus)

    def _on_task(self, record: TaskRecord) -> None:
        self._targets.on_task(record, time.monotonic_ns())
        if record.event == TASK_EXEC:
            self._names.forget(record.pid)

    def _housekeeping(self) -> None:
        """Once a second: dead threads leave the map with their totals kept, new ones get their names."""
        if self._probes is None:
            return
        edge = take_edge(self._probes.maps["threads"], time.monotonic_ns())
        settled = self._targets.settled()  # a thread whose last switch-out was not traced ends with its process
        for i, tid in enumerate(edge.tids.tolist()):
            pid = int(edge.pids[i])
            if edge.flags[i] & THREAD_DEAD or pid in settled:
                self._settle(pid, tid, int(edge.flags[i]))
                self._bury(pid, tid, edge.state_ns[i], bool(edge.flags[i] & THREAD_CARRIER))
            elif not self._targets.knows(pid, tid):
                self._targets.name_thread(pid, tid, bool(edge.flags[i] & THREAD_CARRIER))
        for pid in self._targets.forget_ended():  # their files were held open; their rows are sent
            self._names.forget(pid)

    def _bury(self, pid: int, tid: int, state_ns: NDArray[np.int64], carrier: bool) -> None:
        if not self._targets.knows(pid, tid):
            self._targets.name_thread(pid, tid, carrier)
        self._dead[pid, tid] = self._dead.get((pid, tid), 0) + state_ns
        self._targets.forget_thread(tid)

    # -- items

    def _send(self, item: Item) -> None:
        new = self._interner.flush()
        if new is not None:
            self._sink(new)
        self._sink(item)

    def _send_header(self, comm: str) -> None:
        self._sink(
            Header(
                boot_id=read_boot_id(),
                host=describe_host(self.options.pid),
                target={"pid": self.options.pid, "comm": comm, "collector": "bpf"},
                start_wall_ns=time.time_ns(),
                start_mono_ns=time.monotonic_ns(),
                rate_hz=self.options.rate_hz,
                version=__version__,
            )
        )

    def _send_batch(self, end_ns: int = 0) -> tuple[int, int]:
        rows, sums = self._collector.fold.take_rows()
        samples, waits, unknown = self._collector.take_counts()
        self._unknown_records += unknown
        end = end_ns or time.monotonic_ns()
        slices = self._names.resolve(rows, sums, self._period_ns)
        self._send(Batch(self._batch_ns, end, slices, self._new_losses()))
        self._batch_ns = end
        return samples, waits

    def _new_losses(self) -> dict[str, int]:
        if self._probes is None:
            return {}
        now = self._probes.drops()
        now["threads_untracked"] += self._targets.untracked
        now["procs_untracked"] += self._targets.untracked_procs
        now["frame_gone"] += self._names.python.gone
        now["unknown_record"] += self._unknown_records
        now["stack_lost"] += self._names.stack_lost
        now["names_full"] += self._interner.full
        new = {name: now[name] - self._lost[name] for name in DROPS if now[name] > self._lost[name]}
        self._lost = now
        return new

    def _begin_window(self) -> int:
        assert self._probes is not None
        self._pump()
        self._collector.fold.take_rows()  # what ended before the window is not of it
        self._collector.take_counts()
        edge, sched = self._take_edge()
        self._open_window(edge, sched)
        self._batch_ns = edge.now_ns
        self._counters = read_counters(self._targets.pids(alive=False), edge.now_ns)
        return edge.now_ns

    def _open_window(self, edge: Edge, sched: dict[tuple[int, int], tuple[int, int]]) -> None:
        """What is open at the edge is not of this window: taken off here, it comes with the wait's own record."""
        self._window_ns, self._sched = edge.now_ns, sched
        self._collector.fold.add(edge.open_keys, -edge.open_sums)
        threads = list(zip(edge.pids.tolist(), edge.tids.tolist(), strict=True))
        self._base = {key: state_ns.copy() for key, state_ns in zip(threads, edge.state_ns, strict=True)}
        self._unsure = {}
        for i in np.flatnonzero(edge.unsure_ns).tolist():
            if edge.flags[i] & THREAD_WAS_RUNNABLE:  # settled at this edge: in the totals as runnable already
                self._collector.fold.add(*open_row(*threads[i], RUNNABLE, -int(edge.unsure_ns[i])))
            else:
                self._unsure[threads[i]] = int(edge.unsure_ns[i])
        self._dead.clear()

    def _settle(self, pid: int, tid: int, flags: int) -> None:
        """A thread that the snapshot took for running had no CPU: its time before the window was of the other state."""
        unsure_ns = self._unsure.pop((pid, tid), 0)
        if unsure_ns and flags & THREAD_WAS_RUNNABLE:
            self._base[pid, tid][RUNNING] -= unsure_ns
            self._base[pid, tid][RUNNABLE] += unsure_ns
            self._collector.fold.add(*open_row(pid, tid, RUNNABLE, -unsure_ns))

    def _settle_unsure(self, edge: Edge, sched: dict[tuple[int, int], tuple[int, int]]) -> None:
        """A thread that did not switch all the time either ran or starved: the scheduler knows (its tick counts it)."""
        for i in np.flatnonzero(edge.unsure_ns).tolist():
            key = int(edge.pids[i]), int(edge.tids[i])
            end, begun, unsure_ns = sched.get(key), self._sched.get(key), int(edge.unsure_ns[i])
            if end is None or begun is None or 2 * (end[0] - begun[0]) > edge.now_ns - self._window_ns:
                continue
            edge.state_ns[i, RUNNING] -= unsure_ns
            edge.state_ns[i, RUNNABLE] += unsure_ns
            self._collector.fold.add(*open_row(*key, RUNNABLE, unsure_ns))
            edge.flags[i] |= THREAD_WAS_RUNNABLE

    def _take_edge(self) -> tuple[Edge, dict[tuple[int, int], tuple[int, int]]]:
        """The totals and the scheduler's own, of one moment: taken again when we lost the CPU between the two."""
        assert self._probes is not None
        for _ in range(EDGE_TRIES):
            edge = take_edge(self._probes.maps["threads"], time.monotonic_ns())
            sched = self._schedstats(edge)
            if time.monotonic_ns() - edge.now_ns < EDGE_NS + EDGE_THREAD_NS * len(edge.tids):
                break
        return edge, sched

    def _schedstats(self, edge: Edge) -> dict[tuple[int, int], tuple[int, int]]:
        """(running, runnable) by thread, a wait for a CPU that is open at the edge included as far as it got."""
        out = {}
        columns = (edge.pids, edge.tids, edge.flags, edge.open_runnable_ns)
        for pid, tid, flags, open_ns in zip(*(c.tolist() for c in columns), strict=True):
            if flags & THREAD_RENUMBERED:  # the kernel's clock is of the thread that has the number now
                continue
            read = read_schedstat(pid, tid)
            if read is not None:
                out[pid, tid] = read[0], read[1] + open_ns
        return out

    def _close_window(self) -> Edge:
        """Sends the totals up to now and begins the next window: a recording that is cut off has them up to there."""
        edge, sched = self._take_edge()
        now = edge.now_ns
        self._settle_unsure(edge, sched)
        self._pump(until_ns=now)
        self._collector.fold.add(edge.open_keys, edge.open_sums)
        for i, tid in enumerate(edge.tids.tolist()):
            carrier = bool(edge.flags[i] & THREAD_CARRIER)
            ask = not carrier and not self._targets.library(int(edge.pids[i]), tid)
            library = self._pools.owner(int(edge.pids[i]), tid) if ask else ""
            self._targets.name_thread(int(edge.pids[i]), tid, carrier, library)
            self._settle(int(edge.pids[i]), tid, int(edge.flags[i]))
            if tid == edge.pids[i]:
                self._targets.note_host_pid(tid, int(edge.host_tids[i]))
        self._pools.close()
        self._send_batch(now)
        totals = self._totals(edge, sched)
        self._target_ns += int(totals["state_ns"][:, RUNNING].sum())
        self._send(Totals(self._window_ns, now, totals))
        self._windows += 1
        self._open_window(edge, sched)
        return edge

    def _end_window(self) -> None:
        assert self._probes is not None
        cost = self._probes.costs()
        cpu = os.times()
        now = self._close_window().now_ns
        self._send(host_sample(self._counters, read_counters(self._targets.pids(alive=False), now)))
        self._account(now, cost, cpu.user + cpu.system)

    def _totals(self, edge: Edge, sched: dict[tuple[int, int], tuple[int, int]]) -> NDArray[np.void]:
        begun = self._base
        at_end = dict(self._dead)
        for pid, tid, state_ns in zip(edge.pids.tolist(), edge.tids.tolist(), edge.state_ns, strict=True):
            at_end[pid, tid] = at_end.get((pid, tid), 0) + state_ns
        out = np.zeros(len(at_end), TOTALS_DTYPE)
        for row, ((pid, tid), state_ns) in zip(out, at_end.items(), strict=True):
            row["pid"], row["tid"] = pid, tid
            row["state_ns"] = state_ns - begun.get((pid, tid), 0)
            row["lifetime_ns"] = int(row["state_ns"].sum())
            end, start = sched.get((pid, tid)), self._sched.get((pid, tid), None if (pid, tid) in begun else (0, 0))
            known = end is not None and start is not None
            row["sched_running_ns"] = end[0] - start[0] if known else -1  # type: ignore[index]
            row["sched_runnable_ns"] = end[1] - start[1] if known else -1  # type: ignore[index]
        return out

    def _account(self, now_ns: int, costs: NDArray[np.void], cpu_s: float) -> None:
        """Our cost as a share of the target's CPU: our processes, the programs, the timer's ticks."""
        target_ns = self._target_ns
        runs = (costs["runs"] - self._costs_at_start["runs"]).astype(np.float64)
        mean_ns = costs["timed_ns"] / np.maximum(costs["timed_runs"], 1)
        bpf_ns = float((runs * mean_ns).sum())
        ticks = (
            (now_ns - self._start_ns) / 1e9 * self.options.rate_hz * (len(self._probes.timers) if self._probes else 0)
        )
        per = 1 / target_ns if target_ns > 0 else None
        ratio: Callable[[float], float | None] = lambda ns: None if per is None else round(ns * per, 6)  # noqa: E731
        self.overhead |= {
            "agent_cpu_ratio": ratio((cpu_s - self._cpu_at_start) * 1e9),
            "bpf_cpu_ratio": ratio(bpf_ns),
            "tick_cpu_ratio": ratio(ticks * self._tick_ns),
            "target_cpu_ns": target_ns,
            "tick_ns": round(self._tick_ns),
            "programs": {
                name: {"runs": int(runs[i]), "mean_ns": round(float(mean_ns[i])) if costs["timed_runs"][i] else None}
                for i, name in enumerate(("on_cpu", "on_switch", "on_waking", "tasks"))
            },
        }

    def _send_end(self, reason: str) -> None:
        self._send(End(time.monotonic_ns(), reason, dict(self.overhead)))
