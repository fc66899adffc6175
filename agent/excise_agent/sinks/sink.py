"""What a sink is: it carries items of the spool to one server, and says what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from excise.spool import Item

Kind = Literal["retry", "rejected"]


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Who sends. (agent, sequence) names an item for ever."""

    agent: str  # id, kept on disk
    host: str
    version: str  # of Excise


class SinkError(Exception):
    """Why items were not delivered, a sentence. retry: the server's fault or the network's, the same items may go
    another time. rejected: it is these items that are not taken, whoever tries. What a server said in it goes to
    terminals and journals: it is made printable."""

    def __init__(self, message: str, kind: Kind) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message))
        self.kind: Kind = kind


class Sink(Protocol):
    """One thread calls it; `interrupt` alone may be called from any."""

    @property
    def name(self) -> str:
        """Of the configuration; no other sink has it."""

    @property
    def pause_s(self) -> float:
        """Between two deliveries while there is no backlog: what the server likes to get at once."""

    def deliver(self, agent: AgentInfo, items: Sequence[Item]) -> None:
        """Return when the server has all of them for good, SinkError otherwise: then it has any of them, or none."""

    def interrupt(self) -> None:
        """A delivery under way ends soon, with a SinkError, and so does each that follows."""

    def close(self) -> None: ...
