"""Parts of the stream that somebody asked for, for a while, as a recording: `excise attach` where an agent runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from excise.batch import End, Header, Item
from excise.partition import Part, Partition
from excise.recording import item_bytes, start_bytes
from excise_agent.attach import Watch
from excise_agent.host import describe_host, read_comm
from excise_agent.tree_counters import TreeCounters


class Outlet(Protocol):
    """Where a recording goes: `service.control_stream.Stream`."""

    closed: bool  # nothing more is taken
    stop_asked: bool  # the reader wants no more than the end

    def write(self, chunk: bytes) -> bool:
        """Never blocks."""

    def close(self, reason: str = "") -> None:
        """After what was written."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for. `budget_ratio` None: no limit."""

    pid: int
    duration_s: float
    rate_hz: float
    budget_ratio: float | None
    children: bool = True


@dataclass(eq=False)
class Tap:
    """One of them, and the part of the stream that it gets."""

    wish: Wish
    part: Part
    outlet: Outlet
    until_ns: int  # CLOCK_MONOTONIC
    _begun: bool = False

    def take(self, item: Item) -> None:
        """Writes it. The header once, though the clock may be set later on; the end is that of the tap."""
        if isinstance(item, End) or (self._begun and isinstance(item, Header)):
            return
        self._begun = True
        self.outlet.write(item_bytes(item))

    def end(self, item: End) -> None:
        """The last item."""
        self.outlet.write(item_bytes(item))
        self.outlet.close()


@dataclass(slots=True)
class Taps:
    """All of them. While there is one the watch sees as much as the most demanding of them wants."""

    rate_hz: float  # without any
    budget_ratio: float | None
    _open: list[Tap] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self._open)

    @property
    def next_ns(self) -> int | None:
        """When one of them ends, CLOCK_MONOTONIC."""
        return min((tap.until_ns for tap in self._open), default=None)

    def open(self, watch: Watch, partition: Partition, wish: Wish, outlet: Outlet) -> None:
        """Begins now, with a window of its own."""
        counters = TreeCounters()
        pids = partition.tree(wish.pid) if wish.children else {wish.pid}
        part = Part(
            pids, lambda item: tap.take(item), {"pid": wish.pid, "comm": read_comm(wish.pid) or ""},
            describe_host(wish.pid), counters.sample, wish.children, exclusive=False,
        )  # fmt: skip
        tap = Tap(wish, part, outlet, time.monotonic_ns() + round(wish.duration_s * 1e9))
        self._open.append(tap)
        try:
            now_ns = self.adjust(watch)
            tap.until_ns = now_ns + round(wish.duration_s * 1e9)
            counters.begin(sorted(pids), now_ns)
            outlet.write(start_bytes())
            partition.add(part, now_ns)
        except BaseException:
            self._open.remove(tap)
            raise

    def turn(self, watch: Watch, partition: Partition) -> None:
        """Ends those whose time is over, whose processes have gone or that nobody reads any more."""
        now_ns = time.monotonic_ns()
        over = [t for t in self._open if self._is_over(t, now_ns)]
        if over:
            self._open = [t for t in self._open if t not in over]
            self.adjust(watch)
            for tap in over:
                reason = "interrupted" if tap.outlet.stop_asked else "duration" if tap.part.pids else "target exited"
                self._end(tap, partition, watch, reason)

    def close(self, watch: Watch, partition: Partition, reason: str) -> None:
        """Ends all of them, where the watch has ended."""
        taps, self._open = self._open, []
        for tap in taps:
            self._end(tap, partition, watch, reason)

    @staticmethod
    def _is_over(tap: Tap, now_ns: int) -> bool:
        outlet = tap.outlet
        return now_ns >= tap.until_ns or outlet.closed or outlet.stop_asked or not tap.part.pids

    def _end(self, tap: Tap, partition: Partition, watch: Watch, reason: str) -> None:
        partition.remove(tap.part)
        tap.end(End(time.monotonic_ns(), reason, {**watch.overhead_now(), "agent": True}))

    def adjust(self, watch: Watch) -> int:
        """Ends a window, and sees as much as is wanted from here on. When, CLOCK_MONOTONIC."""
        wishes = [tap.wish for tap in self._open]
        budgets = [self.budget_ratio, *(w.budget_ratio for w in wishes)]
        watch.set_budget(None if None in budgets else max(b for b in budgets if b is not None))
        rate_hz = max([self.rate_hz, *(w.rate_hz for w in wishes)])
        return watch.set_rate(rate_hz) if rate_hz != watch.rate_hz else watch.edge()

