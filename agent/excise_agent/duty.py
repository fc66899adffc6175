"""When the switch hooks are on, while they are on for a part of the time only."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

PERIOD_NS = 1_000_000_000
LEAST_ON_NS = 10_000_000  # putting the hooks on takes a millisecond, and most waits are shorter than this


@dataclass(slots=True)
class Duty:
    """One phase in every period, at a random place in it, so that it cannot lock on to what the target repeats."""

    ratio: float
    on: bool = False
    on_since_ns: int = 0
    next_ns: int = 0  # when to turn
    _period_end_ns: int = 0
    _random: random.Random = field(default_factory=random.Random)

    def start(self, now_ns: int) -> None:
        """The hooks are off."""
        self.on, self._period_end_ns = False, now_ns
        self._plan()

    def turned(self, on: bool, now_ns: int) -> None:
        """The hooks were put on, or taken out."""
        self.on = on
        if on:
            self.on_since_ns, self.next_ns = now_ns, now_ns + self._on_ns()
        else:
            self._period_end_ns = max(self._period_end_ns, now_ns)
            self._plan()

    def _on_ns(self) -> int:
        return max(round(PERIOD_NS * self.ratio), LEAST_ON_NS)

    def _plan(self) -> None:
        begin, on_ns = self._period_end_ns, self._on_ns()
        length = max(PERIOD_NS, round(on_ns / self.ratio))
        self._period_end_ns = begin + length
        self.next_ns = begin + round(self._random.uniform(0, length - on_ns))
