"""Real programs under real probes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from cpython.conftest import INTERPRETERS, Start, Target, start, until
from excise.batch import Batch, Definitions, End, Header, Item, Totals
from excise.frames import Frame, Process, Thread
from excise.names import KERNEL_STATES
from excise_agent.attach import Options, Watch
from excise_agent.governor import Governor

__all__ = ["INTERPRETERS", "Start", "Target", "start", "until"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", INTERPRETERS.values(), ids=list(INTERPRETERS), scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/bpf/" in str(item.path):
            item.add_marker(pytest.mark.bpf)


@dataclass
class Seen:
    """What a watch sent, by hand: no session, so that these tests stand without the ledger."""

    items: list[Item] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    stacks: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    processes: dict[int, Process] = field(default_factory=dict)
    threads: dict[int, Thread] = field(default_factory=dict)
    overhead: dict[str, Any] = field(default_factory=dict)

    def take(self, item: Item) -> None:
        self.items.append(item)
        match item:
            case Definitions():
                self.frames += item.frames
                self.stacks += item.stacks
                self.processes |= {p.pid: p for p in item.processes}
                self.threads |= {t.tid: t for t in item.threads}
            case End():
                self.overhead = item.overhead

    @property
    def header(self) -> Header:
        return next(i for i in self.items if isinstance(i, Header))

    @property
    def end(self) -> End:
        return next(i for i in self.items if isinstance(i, End))

    @property
    def lost(self) -> dict[str, int]:
        out: dict[str, int] = {}
        for item in self.items:
            if isinstance(item, Batch):
                for name, n in item.lost.items():
                    out[name] = out.get(name, 0) + n
        return out

    def rows(self, tid: int | None = None) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, Batch):
                yield from (r for r in item.slices if tid is None or int(r["tid"]) == tid)

    def totals(self) -> dict[int, Any]:
        """By thread, over all windows. The scheduler's counts are -1 when a window lacks them."""
        out: dict[int, Any] = {}
        for item in self.items:
            for row in item.rows if isinstance(item, Totals) else ():
                known = out.get(int(row["tid"]))
                if known is None:
                    out[int(row["tid"])] = row.copy()
                    continue
                known["state_ns"] += row["state_ns"]
                known["lifetime_ns"] += row["lifetime_ns"]
                for name in ("sched_running_ns", "sched_runnable_ns"):
                    known[name] = known[name] + row[name] if min(known[name], row[name]) >= 0 else -1
        return out

    @property
    def span_ns(self) -> int:
        """Of all windows together."""
        windows = [item for item in self.items if isinstance(item, Totals)]
        return windows[-1].end_ns - windows[0].start_ns

    def named(self, row: Any, kind: str = "python") -> list[list[str | int]]:
        frames = [self.frames[f] for f in self.stacks[int(row["stack"])]]
        return [[f.name, f.line] for f in frames if f.kind == kind]

    def ns(self, tid: int, state: str) -> int:
        return int(self.totals()[tid]["state_ns"][KERNEL_STATES.index(state)])


Observe = Callable[..., Seen]


@pytest.fixture
def observe() -> Observe:
    """observe(pid, seconds, stop=condition, governor=None, **options): watches until then and gives what was seen.

    Everything is seen, unless a budget or a governor says otherwise.
    """

    def run(
        pid: int,
        seconds: float = 1.0,
        stop: Callable[[Seen], bool] | None = None,
        governor: Governor | None = None,
        **options: Any,
    ) -> Seen:
        seen = Seen()
        options.setdefault("budget_ratio", None)
        watch = Watch(Options(pid=pid, duration_s=seconds, **options), seen.take, governor=governor)
        try:
            watch.start()
            done = threading.Event()
            if stop is not None:

                def poll() -> None:
                    while not done.wait(0.05):
                        if stop(seen):
                            watch.stop()
                            return

                threading.Thread(target=poll, daemon=True).start()
            watch.run()
            done.set()
        finally:
            watch.close()
        return seen

    return run
