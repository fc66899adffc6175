"""What a spool holds, in the order of its sequence numbers: summaries, and gaps where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from excise.summary import Summary
from excise.workload import Workload


@dataclass(frozen=True, slots=True)
class Entry:
    """The summary of one window of one workload. (agent, sequence) names it for ever: who gets it twice drops one."""

    sequence: int  # from 1; each is given once by an agent
    workload: Workload
    summary: Summary


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that have no summary: windows that were lost. [first, last]"""

    first: int
    last: int
    reason: str  # "crash", "disk_full", "aged", "full", "damaged", ...

    @property
    def windows(self) -> int:
        return self.last - self.first + 1


Item: TypeAlias = Entry | Gap
