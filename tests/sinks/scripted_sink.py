"""A sink whose server is a list: what it takes, it keeps; how it fails is the test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from excise.spool import Entry, Gap, Item
from excise_agent.sinks import AgentInfo, SinkError

Trouble = Callable[[Sequence[Item]], None]


def none(_items: Sequence[Item]) -> None:
    pass


def down(_items: Sequence[Item]) -> None:
    raise SinkError("connection refused", "retry")


def poisoned_by(*sequences: int) -> Trouble:
    """It refuses a batch that has one of these."""
    def refuse(items: Sequence[Item]) -> None:
        if bad := [i.sequence for i in items if isinstance(i, Entry) and i.sequence in sequences]:
            raise SinkError(f"status 400: cannot parse row of {bad}", "rejected")
    return refuse


class ScriptedSink:
    def __init__(self, trouble: Trouble = none, name: str = "scripted", pause_s: float = 0.0) -> None:
        self.name, self.pause_s, self.trouble = name, pause_s, trouble
        self.batches: list[list[Item]] = []
        self.interrupted, self.closed = threading.Event(), False

    def deliver(self, agent: AgentInfo, items: Sequence[Item]) -> None:
        self.trouble(items)
        self.batches.append(list(items))

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed = True

    def sequences(self) -> list[int]:
        """As they arrived, repeats too."""
        return [item.sequence for batch in self.batches for item in batch if isinstance(item, Entry)]

    def gaps(self) -> list[Gap]:
        return [item for batch in self.batches for item in batch if isinstance(item, Gap)]
