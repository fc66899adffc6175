"""Hours of an agent in seconds: the pipeline behind the watch as it is, on a clock that a test sets.

Real: partition, ledger, summaries, outbox, spool, cursor, shipper, metrics. Made up: the items that a watch sends, who
comes and goes, and the sink, which checks that it gets each number once and in order.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from excise.batch import Batch, Cost, Definitions, Header, Totals
from excise.frames import Frame, Process, Thread
from excise.partition import Partition
from excise.spool import Cursor, Entry, Gap, Item, Spool, agent_id
from excise.stages import Rules
from excise.summary import Summary
from excise.workload import Workload
from excise_agent.daemon.observed import Observed
from excise_agent.daemon.outbox import Outbox
from excise_agent.discovery.changes import Found
from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.shipper import Shipper
from excise_agent.sinks.sink import AgentInfo, SinkError
from ledger.streams import slices, totals

S = 1_000_000_000
WINDOW_NS = 10 * S
BEGIN_WALL_NS = 1_800_000_000 * S
FIRST_PID = 5_000_000  # beyond what a kernel gives
FRAMES, FRAMES_EVERY, RENEW_EVERY = 40, 20, 700  # so many names, one more in so many windows, all anew
PRUNE_EVERY, SCRAPE_EVERY = 6, 12


class CheckingSink:
    """Takes what follows what it has, and may be down."""

    name, pause_s = "checking", 0.0

    def __init__(self) -> None:
        self.down = False
        self.last = self.windows = 0
        self.lost: Counter[str] = Counter()

    def deliver(self, agent: AgentInfo, items: Sequence[Item]) -> None:
        if self.down:
            raise SinkError("it is down", "retry")
        for item in items:
            first, last = (item.first, item.last) if isinstance(item, Gap) else (item.sequence, item.sequence)
            assert first == self.last + 1
            self.last = last
            if isinstance(item, Entry):
                self.windows += 1
            else:
                self.lost[item.reason] += last - first + 1

    def interrupt(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Holdings:
    """At a moment, garbage collected."""

    blocks: int  # of Python's allocator: objects, about
    rss_bytes: int
    descriptors: int
    files: int  # in the state folder
    disk_bytes: int
    tables: int  # entries of what the parts of the pipeline keep


class FastForward:
    def __init__(self, state_dir: Path, most_bytes: int, keep_s: float) -> None:
        self.windows = self.made = 0
        self.sink = CheckingSink()
        self._state_dir = state_dir
        self._now_ns = 0  # since the beginning
        self._rules = Rules.load(())
        agent = agent_id(state_dir)
        self.spool = Spool(state_dir / "spool", agent, most_bytes, keep_s, self.wall_ns)
        self.outbox = Outbox(self.spool)
        self.metrics = Metrics(lambda: None, clock=lambda: self._now_ns / 1e9)
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)
        cursor = Cursor(state_dir / "spool", "checking")
        info = AgentInfo(agent, "host", "test")
        self.shipper = Shipper(self.sink, cursor, info, state_dir / "sink-checking.json", wall_ns=self.wall_ns)
        self.observed: dict[str, Observed] = {}
        self._next_pid = FIRST_PID
        self._begin()

    def wall_ns(self) -> int:
        return BEGIN_WALL_NS + self._now_ns

    def window(self) -> None:
        """One more."""
        start_ns = self._now_ns
        self._now_ns += WINDOW_NS
        self.windows += 1
        if self.windows % RENEW_EVERY == 0:
            self._renew(start_ns)
        self._churn(start_ns)
        if self.windows % FRAMES_EVERY == 0:
            self._define(1)
        self._partition.feed(self._batch(start_ns))
        self._partition.feed(Cost(start_ns, self._now_ns, {"agent_ns": S // 20, "bpf_ns": S // 50, "tick_ns": 1000}))
        self._partition.feed(Totals(start_ns, self._now_ns, totals(*(
            {"pid": pid, "tid": pid, "running": 6 * S, "sleep": 4 * S} for pid in self._pids()))))
        for observed in [o for o in self.observed.values() if not o.part.pids]:
            self._end(observed)
        self.outbox.expect(len(self.observed))
        if self.windows % PRUNE_EVERY == 0:
            self.spool.prune()
        if self.windows % SCRAPE_EVERY == 0:
            generate_latest(self._registry)
        while self.shipper.step() == 0.0 and not self.sink.down:
            pass

    def close(self) -> None:
        for observed in list(self.observed.values()):
            self._end(observed)
        self.outbox.close()
        while self.shipper.state().lag or self.sink.last == 0:
            self.shipper.step()
        self.spool.close()

    def holdings(self) -> Holdings:
        gc.collect()
        files = [f for f in self._state_dir.rglob("*") if f.is_file()]
        rss_pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Holdings(
            sys.getallocatedblocks(), rss_pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")),
            len(files), sum(f.stat().st_size for f in files), self._table_entries(),
        )

    # -- what happens on this host

    def _churn(self, now_ns: int) -> None:
        """One serves all the time, one has a worker that is replaced every 6 windows, jobs come every 20 for 8."""
        if not self.windows % 20:
            self._start("job", now_ns)
        if self.windows % 20 == 8 and "job" in self.observed:
            self.observed["job"].part.pids.clear()
        if not self.windows % 6 and "pool" in self.observed:
            self._start("pool", now_ns)
            pids = self.observed["pool"].part.pids
            pids.discard(min(pids))

    def _begin(self) -> None:
        self._partition = Partition()
        wall_ns = self.wall_ns()
        target = {"pid": 1, "comm": "x", "collector": "bpf"}
        self._partition.feed(Header("boot", {}, target, wall_ns, self._now_ns, 19.0, {"kernel": "6.1"}, "test"))
        self._frames = 0
        self._define(FRAMES)
        for name in ("server", "pool"):
            self._start(name, self._now_ns)

    def _renew(self, now_ns: int) -> None:
        """As when the tables of names are full."""
        self._now_ns = now_ns
        for observed in list(self.observed.values()):
            self._end(observed)
        self._begin()
        self._now_ns = now_ns + WINDOW_NS

    def _start(self, name: str, now_ns: int) -> None:
        pid, self._next_pid = self._next_pid, self._next_pid + 1
        self._partition.feed(Definitions([], [], [Process(pid, pid, name, "3.12.1")], [Thread(pid, pid, name, True)]))
        observed = self.observed.get(name)
        if observed is None:
            first = Found(pid, pid, Workload(name, "rule"), "made up")
            observed = self.observed[name] = Observed.begin(
                first, self._rules, WINDOW_NS / 1e9, 50, self._emit, self._spoil
            )
            observed.part.pids.add(pid)
            observed.join(self._partition, now_ns)
        else:
            observed.part.pids.add(pid)

    def _emit(self, observed: Observed, summary: Summary) -> None:
        self.made += 1
        self.outbox.put(observed.workload, summary)
        self.metrics.take(observed.workload, summary)

    def _spoil(self, observed: Observed, error: ValueError) -> None:
        raise error

    def _end(self, observed: Observed) -> None:
        del self.observed[observed.workload.name]
        observed.end(self._partition)
        self.metrics.forget(observed.workload)

    def _define(self, frames: int) -> None:
        first = self._frames
        self._frames += frames
        made = [Frame("python", "/srv/app.py", f"step_{i}", i) for i in range(first, self._frames)]
        self._partition.feed(Definitions(made, [(i, i // 2) for i in range(first, self._frames)], [], []))

    def _pids(self) -> list[int]:
        return sorted(pid for o in self.observed.values() for pid in o.part.pids)

    def _batch(self, start_ns: int) -> Batch:
        rows = []
        for pid in self._pids():
            for stack in range(1 + self.windows % 7, self._frames, 8):
                row = {"pid": pid, "tid": pid, "stack": stack}
                rows.append({**row, "state": "running", "count": 10, "weight_ns": S // 2})
                rows.append({**row, "state": "sleep", "count": 3, "weight_ns": S // 4, "syscall": 230})
        lost = {"ring_full": 1} if self.windows % 50 == 0 else {}
        return Batch(start_ns, self._now_ns, slices(*rows), lost)

    def _table_entries(self) -> int:
        p = self._partition
        kept = [p._processes, p._threads, p._absent, p._parts, self.metrics._sums, self.metrics._taken_s,
                self.metrics._gone, self.spool._pending, self.outbox._free, self.observed]
        for observed in self.observed.values():
            windows = observed.summarizer._windows
            kept += [windows.known.processes, windows.known.threads, windows._carried, windows._memory.library,
                     windows._memory.ran_python]
        return sum(map(len, kept))
