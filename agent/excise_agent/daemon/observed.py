"""One workload under watch: its part of the stream, and the summary of each of its windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from excise.batch import Item
from excise.partition import Part, Partition
from excise.stages import Rules
from excise.summarize import Summarizer
from excise.summary import Summary
from excise.workload import Workload
from excise_agent.discovery.changes import Found
from excise_agent.host import describe_host, read_comm
from excise_agent.tree_counters import TreeCounters


@dataclass(eq=False)
class Observed:
    """Made by `begin`. `since_wall_ns`: when the watching of it began."""

    workload: Workload
    part: Part
    summarizer: Summarizer
    counters: TreeCounters
    why: str
    since_wall_ns: int = field(default_factory=time.time_ns)
    windows: int = 0
    last: Summary | None = None

    @classmethod
    def begin(
        cls,
        first: Found,
        rules: Rules,
        window_s: float,
        stacks: int,
        emit: Callable[[Observed, Summary], None],
        spoil: Callable[[Observed, ValueError], None],
    ) -> Observed:
        """Not yet a part of any stream, and without processes."""

        def take(summary: Summary) -> None:
            made.windows += 1
            made.last = summary
            emit(made, summary)

        def feed(item: Item) -> None:
            try:
                summarizer.feed(item)
            except ValueError as error:  # its window contradicts itself: that one is lost, and nobody else's
                spoil(made, error)

        counters = TreeCounters()
        summarizer = Summarizer(rules, take, round(window_s * 1e9), stacks)
        target = {"pid": first.pid, "comm": read_comm(first.pid) or ""}
        part = Part(set(), feed, target, describe_host(first.pid), counters.sample)
        made = cls(first.workload, part, summarizer, counters, first.why)
        return made

    def join(self, partition: Partition, now_ns: int) -> None:
        """Its stream begins here, where a window of the whole has just ended."""
        self.counters.begin(sorted(self.part.pids), now_ns)
        partition.add(self.part, now_ns)

    def recount(self, now_ns: int) -> None:
        """More processes are of it from here on: what they did before is not of its windows."""
        self.counters.begin(sorted(self.part.pids), now_ns)

    def end(self, partition: Partition) -> None:
        """Gives the summary of what is left of its last window."""
        partition.remove(self.part)
        self.summarizer.close()
