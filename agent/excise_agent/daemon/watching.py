"""All workloads of the host under one watch: one set of probes, on only while there is something to watch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Final

from excise.batch import Item
from excise.partition import Part, Partition
from excise.stages import Rules
from excise.summary import Summary
from excise.workload import Workload
from excise_agent.attach import Options, Watch
from excise_agent.daemon.observed import Observed
from excise_agent.daemon.taps import Outlet, Taps, Wish
from excise_agent.discovery.changes import Found

MOST_NAMES: Final = 0.75  # of the tables of names that only grow: then the watch begins anew


@dataclass(frozen=True, slots=True)
class Settings:
    """See config.schema."""

    rate_hz: float
    budget_ratio: float | None
    window_s: float
    stacks: int
    rules: Rules
    most_workloads: int = 64


class Watching:
    """`emit(observed, summary)` for each window of each workload; `ended(observed)` after its last one;
    `spoil(observed, error)` for one that could not be summed up."""

    def __init__(
        self,
        settings: Settings,
        emit: Callable[[Observed, Summary], None],
        ended: Callable[[Observed], None],
        spoil: Callable[[Observed, ValueError], None],
        notice: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.watch: Watch | None = None
        self.starts = 0  # of the probes
        self.refused: set[Workload] = set()  # there were too many
        self._emit, self._ended, self._spoil, self._notice = emit, ended, spoil, notice
        self._past_lost: Counter[str] = Counter()
        self._past_programs_ns = self._past_ticks_ns = 0  # of watches that have ended
        self._observed: dict[Workload, Observed] = {}
        self._partition = Partition()
        self._taps = Taps(settings.rate_hz, settings.budget_ratio)

    @property
    def observed(self) -> tuple[Observed, ...]:
        return tuple(self._observed.values())

    def pids(self) -> set[int]:
        """Processes that are watched and live."""
        return set(self.watch.pids()) if self.watch is not None else set()

    def tap(self, wish: Wish, outlet: Outlet) -> bool:
        """Has the part of the stream that is asked for written there. False: that process is not watched."""
        if self.watch is None or wish.pid not in self.pids():
            return False
        self._taps.open(self.watch, self._partition, wish, outlet)
        return True

    @property
    def programs_ns(self) -> int:
        """CPU time of our programs in the kernel, since the agent's start."""
        return self._past_programs_ns + (self.watch.programs_ns if self.watch is not None else 0)

    @property
    def ticks_ns(self) -> int:
        """Of the timers' interrupts."""
        return self._past_ticks_ns + (self.watch.ticks_ns if self.watch is not None else 0)

    @property
    def taps(self) -> int:
        """How many ask for a part of the stream."""
        return self._taps.count

    # -- what is watched

    def take(self, found: Sequence[Found]) -> list[Observed]:
        """Watches these too, parents before their children. Gives the workloads that are new. Raises LoadError or
        OSError when the probes cannot be put on, and watches none of them then."""
        found = self._those_with_room(found)
        if not found:
            return []
        try:
            now_ns = self._reach([f.pid for f in found])
        except ProcessLookupError:  # it has just ended; whoever lives is asked for again with the next look
            if self.watch is not None:
                raise
            return []
        new: list[Observed] = []
        for f in found:
            observed = self._observed.get(f.workload)
            if observed is None:
                observed = self._observed[f.workload] = self._begin(f)
                new.append(observed)
            self._partition.move(self._with_children(f.pid), observed.part)
        for observed in new:
            observed.join(self._partition, now_ns)
        for observed in {self._observed[f.workload] for f in found} - set(new):
            observed.recount(now_ns)
        return new

    def let_go(self, pids: set[int]) -> None:
        """These belong to no workload any more: their time is not accounted for from here on."""
        mine = {pid for o in self.observed for pid in o.part.pids & pids}
        if self.watch is None or not mine:
            return
        self._reach([])
        for observed in self.observed:
            observed.part.pids -= mine
            if not observed.part.pids:
                self._end(observed)
        if not self._observed:
            self.stop("nothing to watch")

    def change(self, settings: Settings) -> None:
        """Other settings, from here on. Raises LoadError or OSError."""
        old, self.settings = self.settings, settings
        self._taps.rate_hz, self._taps.budget_ratio = settings.rate_hz, settings.budget_ratio
        if self.watch is None or old == settings:
            return
        same_rules = [astuple(r) for r in old.rules] == [astuple(r) for r in settings.rules]
        if (old.window_s, old.stacks) != (settings.window_s, settings.stacks) or not same_rules:
            self._renew()
        else:
            self._taps.adjust(self.watch)

    def abandon(self) -> None:
        """The watch has failed: what windows have so far is what they come to."""
        watch, self.watch = self.watch, None
        if watch is not None:
            self._taps.close(watch, self._partition, "the watch failed")
            self._retire(watch)
        for observed in self.observed:
            self._end(observed)

    def turn(self) -> None:
        """What is to be done now; call it after at most `wait_s`."""
        if self.watch is None:
            return
        batch = self.watch.turn()
        if self._taps.count:
            self._taps.turn(self.watch, self._partition)
        if not batch:
            return
        for observed in [o for o in self.observed if not o.part.pids]:
            self._end(observed)
        if not self.watch.anyone_left():
            self.stop("target exited")
        elif self.watch.names_ratio > MOST_NAMES:
            self._renew()

    def wait_s(self) -> float | None:
        """How long one may sleep before `turn` has something to do; None: for ever."""
        if self.watch is None:
            return None
        over_ns = self._taps.next_ns
        wait_s = self.watch.wait_s()
        return wait_s if over_ns is None else max(min(wait_s, (over_ns - time.monotonic_ns()) / 1e9), 0.0)

    def stop(self, reason: str = "interrupted") -> None:
        """Ends the last windows and takes the probes out."""
        watch, self.watch = self.watch, None
        if watch is None:
            return
        try:
            watch.finish(reason)
        finally:
            self._taps.close(watch, self._partition, reason)
            self._retire(watch)
            for observed in self.observed:
                self._end(observed)

    def _those_with_room(self, found: Sequence[Found]) -> list[Found]:
        taken = set(self._observed)
        out = []
        for f in found:
            if f.workload in taken or len(taken) < self.settings.most_workloads:
                taken.add(f.workload)
                out.append(f)
            elif f.workload not in self.refused:
                self.refused.add(f.workload)
                self._notice(f"{f.workload.name} is not watched: there are {len(taken)} already (most_workloads)")
        return out

    def _reach(self, pids: list[int]) -> int:
        """Has the trees of these processes watched, and ends a window. When, CLOCK_MONOTONIC."""
        if self.watch is None:
            return self._start(pids)
        known = self.pids()
        new = [pid for pid in pids if pid not in known]
        return self.watch.add(new) if new else self.watch.edge()

    def _start(self, pids: list[int]) -> int:
        s = self.settings
        options = Options(
            pids[0], None, s.rate_hz, budget_ratio=s.budget_ratio, window_s=s.window_s, parts=True,
            others=tuple(pids[1:]),
        )  # fmt: skip
        self._partition = Partition(round(s.window_s * 1e9))
        watch = Watch(options, self._feed, self._notice)
        try:
            watch.start()
        except BaseException:
            watch.close()
            raise
        self.watch = watch
        self.starts += 1
        return watch.start_ns

    def _feed(self, item: Item) -> None:
        self._partition.feed(item)

    def _begin(self, first: Found) -> Observed:
        s = self.settings
        return Observed.begin(first, s.rules, s.window_s, s.stacks, self._emit, self._spoil)

    def _with_children(self, pid: int) -> set[int]:
        """The process, and those of its descendants that belong where it belongs now."""
        here = self._part_of(pid)
        return {p for p in self._partition.tree(pid) if self._part_of(p) is here}

    def _part_of(self, pid: int) -> Part | None:
        return next((o.part for o in self._observed.values() if pid in o.part.pids), None)

    def _end(self, observed: Observed) -> None:
        del self._observed[observed.workload]
        observed.end(self._partition)
        self._ended(observed)

    @property
    def lost_outside(self) -> dict[str, int]:
        """Records lost while no workload was there whose they could be, since the agent's start."""
        return dict(Counter(self._past_lost) + Counter(self._partition.lost))

    def _retire(self, watch: Watch) -> None:
        self._past_lost.update(self._partition.lost)
        self._partition.lost = {}
        self._past_programs_ns += watch.programs_ns
        self._past_ticks_ns += watch.ticks_ns
        watch.close()

    def _renew(self) -> None:
        """The tables of names are full: what goes on is watched anew, and its windows go on."""
        found = [
            Found(pid, 0, o.workload, o.why) for o in self.observed for pid in sorted(o.part.pids & self.pids())
        ]
        self.stop("renewed")
        self.take(found)
