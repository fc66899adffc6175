"""How much work a program may make for us: one that makes up new code as fast as it can must not hold up the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MOST: Final = 1_000_000
"""Saved up, in bytes of line tables (about 0.3 us each): a third of a second of our time, 1400 functions of 500 bytes.
A torch server shows 3000 in five minutes."""

PER_S: Final = 200_000.0
"""Added a second: 6 % of a CPU. Code that is compiled on and on (notebooks, templates) takes some thousand."""

CODE_BYTES: Final = 200  # a code object that is read takes as long as so many bytes of a line table


class Patience:
    """Full at first. Of a program and all of its forks together, so that forking brings nothing."""

    def __init__(
        self, most: float = MOST, per_s: float = PER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._per_s, self._clock = most, per_s, clock
        self._left, self._at = most, clock()

    def left(self) -> bool:
        """Whether there is any."""
        now = self._clock()
        self._left = min(self._left + (now - self._at) * self._per_s, self._most)
        self._at = now
        return self._left > 0

    def spend(self, amount: int) -> None:
        """May go below nothing, by one piece of work."""
        self._left -= amount
