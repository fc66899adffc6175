"""How long a delivery may take in all, however slowly a server answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from excise_agent.sinks.sink import SinkError

_SLICE_S = 0.2  # after which a wait looks whether it was interrupted


class Deadline:
    """Of one delivery. `interrupted`: set by who wants it to end now."""

    def __init__(self, within_s: float, interrupted: threading.Event,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._within_s, self._interrupted, self._clock = within_s, interrupted, clock
        self._end = clock() + within_s

    def share(self, of: int) -> Deadline:
        """For the first of so many tries: what is left, divided by them."""
        return Deadline(max(self._end - self._clock(), 0) / of, self._interrupted, self._clock)

    def slice_s(self) -> float:
        """How long to wait before asking again. SinkError: the time is over."""
        if self._interrupted.is_set():
            raise SinkError("was stopped", "retry")
        left = self._end - self._clock()
        if left <= 0:
            raise SinkError(f"did not answer within {self._within_s:.3g} s", "retry")
        return min(left, _SLICE_S)
