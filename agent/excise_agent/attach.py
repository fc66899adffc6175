"""Watches a process tree on this host and sends the stream of items: to a session, to a recording, or both."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from excise import __version__
from excise.batch import Batch, End, Header, Item, Totals
from excise.names import DROPS
from excise.records import TASK_EXEC, THREAD_CARRIER, WATCHED_SLOTS
from excise_agent.activity import Look
from excise_agent.books import Books, Closed
from excise_agent.calibrate import tick_cost_ns
from excise_agent.collectors.bpf import BpfCollector, StackRecord, TaskRecord
from excise_agent.cpus import usable_cpus
from excise_agent.demangle import prepare_demangler
from excise_agent.edges import RUNNING, Edge
from excise_agent.footprint import give_back, prepare_footprint
from excise_agent.governor import DEFAULT_BUDGET_RATIO, Governor, Step
from excise_agent.host import describe_host, read_boot_id
from excise_agent.interner import Interner
from excise_agent.loader import Probes, Sizes, pid_namespace
from excise_agent.namer import Namer
from excise_agent.pool_owner import PoolOwners
from excise_agent.targets import EXEC_POLL_NS, Targets
from excise_agent.thrift import Thrift
from excise_agent.timers import Timers
from excise_agent.tree_counters import TreeCounters

BATCH_NS = 1_000_000_000
PARTS_BATCH_NS = 2_000_000_000  # of a stream that lasts: a third less of our CPU; nobody looks at its batches
FIRST_TOTALS_NS = 900_000_000
CLOCK_STEP_NS = 1_000_000  # of the wall clock against the monotonic one
QUIET_DRAIN_S = 0.3  # while no new code and no new process comes; code that is to be named may be freed meanwhile
DRAIN_S = 0.1  # 2 MB hold 26 000 records: enough for 100 ms of 260 000 records/s
MIN_DRAIN_S = 0.005


@dataclass(frozen=True, slots=True)
class Options:
    """`rate_hz` samples per second and CPU; `budget_ratio` of the target's CPU time for our own, None: no limit."""

    pid: int
    duration_s: float | None = 10.0
    rate_hz: float = 99.0
    children: bool = True
    budget_ratio: float | None = DEFAULT_BUDGET_RATIO
    window_s: float = 10.0  # of a long watch: what a crash can take with it
    parts: bool = False  # for a `Partition`: headers follow the clock, and hosts are not sampled
    others: tuple[int, ...] = ()  # roots of more trees; see also `Watch.add`
    sizes: Sizes = field(default_factory=Sizes)


class Watch:
    """One attachment. `start` puts the probes on, `run` watches, `close` leaves nothing behind."""

    def __init__(
        self,
        options: Options,
        sink: Callable[[Item], None],
        notice: Callable[[str], None] = lambda _: None,
        governor: Governor | None = None,
    ) -> None:
        self.options = options
        self._sink = sink
        self._notice = notice
        self._interner = Interner()
        self._names = Namer(self._interner)
        self._pools = PoolOwners()
        self._counters = TreeCounters()
        self._target_ns = self._windows = 0
        self._governor = governor or Governor(options.budget_ratio)
        self._lost = dict.fromkeys(DROPS, 0)
        self._unknown_records = 0
        self._batch_ns = 0
        self._samples = self._waits = 0
        self._wait_s = DRAIN_S
        self._news = False  # whether the last look brought new code or a process
        self._stop_r, self._stop_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._probes: Probes | None = None
        self.overhead: dict[str, Any] = {}

    # -- life

    def start(self) -> None:
        """Loads, attaches, finds the tree. Raises LoadError or OSError with the way out in the text."""
        options = self.options
        self._pidfd = os.pidfd_open(options.pid)
        prepare_footprint()
        look = Look.at((options.pid, *options.others), options.children)
        prepare_demangler()
        self._probes = Probes.load(options.sizes, self._notice)
        self._collector = BpfCollector(self._probes)
        self._targets = Targets(self._probes, self._names.python, self._interner, options.children)
        self._names.prepare(kernel=options.rate_hz > 0)
        self._timers = Timers(self._probes, options.rate_hz)
        self._tick_ns = tick_cost_ns() if options.rate_hz > 0 else 0.0
        self._thrift = Thrift(self._probes, self._targets, self._timers, self._governor, self._tick_ns)
        step = self._thrift.expect(look.again())
        self._thrift.carry_out(step)
        self._probes.attach()
        for pid in (options.pid, *options.others):
            self._targets.add_tree(pid)
        self._targets.keep(options.pid)
        self._books = Books(self._probes, self._collector, self._targets, self._pump)
        if step.duty_ratio < 1:
            self._books.begin_phased(step.duty_ratio)
        self._name_chains()
        self._names.preload(self._targets.pids())
        give_back()
        root = self._targets.process(options.pid)
        self._comm = root.comm if root else ""
        self._send_header()
        self._send_definitions()
        now = self._begin_window()
        self._start_ns = now
        lasting = self.options.parts and self.options.window_s * 1e9 >= 5 * PARTS_BATCH_NS
        self._every_ns = PARTS_BATCH_NS if lasting else BATCH_NS
        self._next_batch_ns = now + self._every_ns
        times = os.times()
        self.overhead["startup_cpu_s"] = round(sum(times[:4]), 3)  # imports and children included
        self._thrift.start(now)

    def stop(self) -> None:
        """Ends `run` early; safe in a signal handler."""
        os.write(self._stop_w, b"x")

    def run(self, progress: Callable[[float, int, int], None] = lambda *_: None) -> None:
        """Watches until the duration is over, `stop` was called or all processes have ended, and sends the end.

        `progress(elapsed_s, samples, waits)` is called about once a second.
        """
        deadline = None if self.options.duration_s is None else self._start_ns / 1e9 + self.options.duration_s
        reason = "duration"
        wakers = [self._stop_r, self._pidfd]
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            timeout = self.wait_s() if deadline is None else min(self.wait_s(), deadline - now)
            ready, _, _ = select.select(wakers, [], [], max(timeout, 0))
            batch = self.turn()
            if self._stop_r in ready:
                reason = "interrupted"
                break
            if self._pidfd in ready:  # the root has ended; others of its tree may go on
                wakers.remove(self._pidfd)
            if self._pidfd not in wakers and not self.anyone_left():
                reason = "target exited"
                break
            if batch:
                progress(time.monotonic() - self._start_ns / 1e9, self._samples, self._waits)
        self.finish(reason)

    def wait_s(self) -> float:
        """How long whoever calls `turn` may sleep before the next one."""
        wait_s = min(self._wait_s, EXEC_POLL_NS / 1e9) if self._targets.execs_pending() else self._wait_s
        if (turn_ns := self._books.turn_ns) is not None:
            wait_s = min(wait_s, turn_ns / 1e9 - time.monotonic())
        return max(wait_s, 0.0)

    def turn(self) -> bool:
        """What is to be done now: takes what came, about once a second sends it on, and ends windows. Whether it did
        send."""
        backlog = self._backlog()
        self._books.turn()
        self._name_chains()
        self._pump()
        if self._probes is not None and self._probes.ring is not None and self._thrift.alarmed(self._probes.ring):
            self._account(urgent=True)
        most_s = DRAIN_S if self._news else QUIET_DRAIN_S
        self._wait_s = max(MIN_DRAIN_S, self._wait_s / 2) if backlog > 0.25 else min(most_s, self._wait_s * 1.5)
        now_ns = time.monotonic_ns()
        if now_ns < self._next_batch_ns:
            return False
        self._next_batch_ns = max(self._next_batch_ns + self._every_ns, now_ns)
        samples, waits = self._send_batch()
        self._samples, self._waits = self._samples + samples, self._waits + waits
        self._housekeeping()
        self._account()
        if time.monotonic_ns() >= self._window_end_ns():
            self._close_window()
        return True

    def add(self, pids: Iterable[int]) -> int:
        """More trees, from here on: the window ends, the next one has them from its beginning. When, CLOCK_MONOTONIC.
        Raises OSError."""
        new: list[int] = []
        for pid in pids:
            new += self._targets.add_tree(pid)
        self._name_chains()
        self._names.preload(new)
        return self._close_window(without=new).edge.now_ns

    def set_rate(self, rate_hz: float) -> int:
        """Samples as often, from the next window on, which begins now, CLOCK_MONOTONIC."""
        now_ns = self._close_window(rate_hz=rate_hz).edge.now_ns
        self._send_header()
        return now_ns

    def set_budget(self, ratio: float | None) -> None:
        """Of the target's CPU time, from now on; None: no limit."""
        self._governor.budget_ratio = ratio

    @property
    def start_ns(self) -> int:
        """When the first window began, CLOCK_MONOTONIC."""
        return self._start_ns

    @property
    def rate_hz(self) -> float:
        """Samples a second and CPU that were asked for."""
        return self._timers.rate_hz

    @property
    def names_ratio(self) -> float:
        """How full the tables are of what has got a name: they only grow."""
        return self._interner.fill_ratio

    def pids(self) -> list[int]:
        """Processes that are watched and live."""
        return self._targets.pids()

    def overhead_now(self) -> dict[str, Any]:
        """What it has cost since the start."""
        return self.overhead | self._thrift.overhead(self._target_ns)

    @property
    def programs_ns(self) -> int:
        """What our programs in the kernel have taken since the start."""
        return self._thrift.programs_ns

    @property
    def ticks_ns(self) -> int:
        """And the timers' interrupts."""
        return self._thrift.ticks_ns

    def edge(self) -> int:
        """Ends a window now, so that a part of the stream can begin or end here. CLOCK_MONOTONIC, ns."""
        return self._close_window().edge.now_ns

    def finish(self, reason: str) -> None:
        """Ends the last window and the stream."""
        self._close_window(reopen=False)
        self.overhead = self.overhead_now()
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

    def _window_end_ns(self) -> int:
        """Windows end at multiples of their length by the wall clock; the first totals come early, lest a recording
        that is cut off has none."""
        if not self._windows:
            return self._start_ns + FIRST_TOTALS_NS
        length = round(self.options.window_s * 1e9)
        offset = time.time_ns() - time.monotonic_ns()
        return ((self._books.start_ns + offset) // length + 1) * length - offset

    def _backlog(self) -> float:
        ring = self._probes.ring if self._probes else None
        return ring.backlog() / ring.size if ring else 0.0

    def anyone_left(self) -> bool:
        """Whether a process that is watched lives."""
        self._targets.mark_ended()
        return bool(self._targets.pids())

    def _pump(self, until_ns: int = 0) -> None:
        codes = self._names.python.codes_read
        tasks = False
        for record in self._collector.drain(until_ns):
            if record is None:
                self._send_batch()
            elif isinstance(record, StackRecord):
                self._names.name_stack(record)
            else:
                tasks = True
                self._on_task(record)
        self._news = tasks or self._names.python.codes_read > codes
        now = time.monotonic_ns()
        self._targets.poll_execs(now)
        self._timers.vary(now)

    def _name_chains(self) -> None:
        """Stacks that were walked from here, of threads that waited when they were looked at."""
        for hash_, (pid, frames) in self._targets.take_chains().items():
            self._names.name_chain(hash_, pid, frames)

    def _on_task(self, record: TaskRecord) -> None:
        self._targets.on_task(record, time.monotonic_ns())
        if record.event == TASK_EXEC:
            self._names.forget(record.pid)

    def _housekeeping(self) -> None:
        """Once a second: dead threads leave the map with their totals kept, new ones get their names."""
        if self._probes is None:
            return
        edge = self._books.edge()
        dead = self._books.bury_dead(edge, self._targets.settled())
        for i, (pid, tid) in enumerate(edge.keys()):
            if not self._targets.knows(pid, tid):
                self._targets.name_thread(pid, tid, bool(edge.flags[i] & THREAD_CARRIER))
        buried = edge.tids[dead].tolist()
        for tid in buried:
            self._targets.forget_thread(tid)
        self._unmark(buried, edge)
        for pid in self._targets.forget_ended():  # their files were held open; their rows are sent
            self._names.forget(pid)

    def _unmark(self, buried: list[int], edge: Edge) -> None:
        """Slots that no thread has any more. One that was taken between the look and the clearing is marked again."""
        assert self._probes is not None
        living = {tid % WATCHED_SLOTS for tid in set(edge.tids.tolist()) - set(buried)} if buried else set()
        cleared = {tid % WATCHED_SLOTS for tid in buried} - living
        for slot in cleared:
            self._probes.mark_watched(slot, False)
        if cleared:
            for tid in self._books.edge().tids.tolist():
                if tid % WATCHED_SLOTS in cleared:
                    self._probes.mark_watched(tid)

    # -- items

    def _send(self, item: Item) -> None:
        self._send_definitions()
        self._sink(item)

    def _send_definitions(self) -> None:
        new = self._interner.flush()
        if new is not None:
            self._sink(new)

    def _send_header(self) -> None:
        self._wall_offset_ns = time.time_ns() - (now_ns := time.monotonic_ns())
        self._sink(
            Header(
                boot_id=read_boot_id(),
                host=describe_host(self.options.pid),
                target={"pid": self.options.pid, "comm": self._comm, "collector": "bpf"},
                start_wall_ns=now_ns + self._wall_offset_ns,
                start_mono_ns=now_ns,
                rate_hz=self._timers.rate_hz,
                capabilities=self._capabilities(),
                version=__version__,
            )
        )

    def _capabilities(self) -> dict[str, Any]:
        """What this host and this user let us see; summaries carry its fingerprint."""
        assert self._probes is not None
        return {
            "kernel": ".".join(os.uname().release.split(".")[:2]),
            "typed_hooks": self._probes.typed,
            "kernel_symbols": self._names.names_kernel,
            "host_pids": pid_namespace()["NS_INO"] == 0,
            "tick_cost": self._tick_ns > 0,
        }

    def _send_batch(self, end_ns: int = 0) -> tuple[int, int]:
        folded = self._collector.fold.take_rows()
        samples, waits, unknown = self._collector.take_counts()
        self._unknown_records += unknown
        end = end_ns or time.monotonic_ns()
        slices = self._names.resolve(folded, self._timers.period_ns, self._thrift.step.duty_ratio)
        self._send(Batch(self._batch_ns, end, slices, self._new_losses(), folded.lengths))
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

    def _forget_losses(self) -> None:
        """Records that were lost before the window are not of it; what is untracked stays so."""
        if self._probes is not None:
            self._lost |= {n: lost for n, lost in self._probes.drops().items() if not n.endswith("_untracked")}

    def _begin_window(self) -> int:
        edge = self._books.begin()
        self._collector.take_counts()
        self._forget_losses()
        self._timers.follow(usable_cpus(edge.keys()))
        self._batch_ns = edge.now_ns
        if not self.options.parts:
            self._counters.begin(self._targets.pids(alive=False), edge.now_ns)
        return edge.now_ns

    def _close_window(
        self, *, reopen: bool = True, without: Sequence[int] = (), rate_hz: float | None = None
    ) -> Closed:
        """Sends the totals up to now and begins the next window: a recording that is cut off has them up to there.

        `without`: processes that are new here and belong to the next window only. `rate_hz`: of that one.
        """
        closed = self._books.close()
        now = closed.edge.now_ns
        self._name_threads(closed.edge)
        self._send_batch(now)
        totals = closed.totals[~np.isin(closed.totals["pid"], without)] if without else closed.totals
        target_ns = int(totals["state_ns"][:, RUNNING].sum())
        self._target_ns += target_ns
        if not self.options.parts:
            sample = self._counters.sample(self._targets.pids(alive=False), closed.start_ns, now, last=not reopen)
            if sample is not None:
                self._send(sample)
        self._send(self._thrift.cost(closed.start_ns, now, target_ns))
        self._send(Totals(closed.start_ns, now, totals))
        self._windows += 1
        if rate_hz is not None:
            self._timers.rate_hz = rate_hz
        if self.options.parts and abs(time.time_ns() - time.monotonic_ns() - self._wall_offset_ns) > CLOCK_STEP_NS:
            self._send_header()
        if reopen:
            self._books.open(closed.edge, closed.sched)
        self._timers.follow(usable_cpus(closed.edge.keys()))
        return closed

    def _name_threads(self, edge: Edge) -> None:
        for i, (pid, tid) in enumerate(edge.keys()):
            carrier = bool(edge.flags[i] & THREAD_CARRIER)
            ask = not carrier and not self._targets.library(pid, tid)
            library = self._pools.owner(pid, tid) if ask else ""
            self._targets.name_thread(pid, tid, carrier, library)
            if tid == pid:
                self._targets.note_host_pid(tid, int(edge.host_tids[i]))
        self._pools.close()

    # -- what it costs

    def _account(self, urgent: bool = False) -> None:
        """Takes stock, and sees as much or as little from here on as the budget allows."""
        step = self._thrift.account(urgent)
        if step is not self._thrift.step:
            self._apply(step)

    def _apply(self, step: Step) -> None:
        if not self._books.phased and step.duty_ratio < 1:
            closed = self._close_window(reopen=False)
            self._books.go_phased(step.duty_ratio, closed.edge, closed.sched)
        elif self._books.phased and step.duty_ratio == 1:
            self._close_window(reopen=False)
            self._books.go_exact()
            self._name_chains()
        elif self._books.phased:
            self._send_batch()  # its waits stand for others by the share that they were seen at
            self._books.set_duty(step.duty_ratio)
        self._thrift.carry_out(step)

    def _send_end(self, reason: str) -> None:
        self._send(End(time.monotonic_ns(), reason, dict(self.overhead)))
