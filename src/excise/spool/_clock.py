"""The log's own clock: what files age by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_STEP_NS: Final = 3_600_000_000_000
"""Of one reading to the next, and of a restart. A clock that is set a year forward ages the files by an hour."""


class LogClock:
    """Goes on from where the log had it. It never goes back, and never further at once than MAX_STEP_NS."""

    def __init__(self, clock: Callable[[], int], log_ns: int, wall_ns: int) -> None:
        """`wall_ns`: what the wall clock showed when the log had `log_ns`; 0: not known."""
        self._clock = clock
        self._ns = log_ns
        self._wall_ns = wall_ns or clock()

    def read(self) -> int:
        wall_ns = self._clock()
        self._ns += min(max(wall_ns - self._wall_ns, 0), MAX_STEP_NS)
        self._wall_ns = wall_ns
        return self._ns

    @property
    def wall_ns(self) -> int:
        """When it was read last."""
        return self._wall_ns
