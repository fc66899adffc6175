"""Time in a request that is no stage's: unknown arithmetic, a sleep, and contention for the GIL."""

from __future__ import annotations

import time
from typing import Any

from stopwatch import Stopwatch, busy_ns


def mix(count: int) -> int:
    value = 1
    for i in range(count):
        value = (value * 31 + i) % 1000003
    return value


def rest(seconds: float) -> None:
    time.sleep(seconds)


class Extras:
    def __init__(self, watch: Stopwatch, unknown: float, sleep_ms: float) -> None:
        self.watch, self.unknown, self.sleep_s = watch, unknown, sleep_ms / 1e3

    def after(self) -> None:
        """At the end of each request: a sleep, then as much arithmetic as this thread lacks."""
        if self.sleep_s:
            with self.watch("sleep"):
                rest(self.sleep_s)
        while self.unknown:
            mine = self.watch.mine()
            if mine["unknown"] >= self.unknown * busy_ns(mine):
                return
            with self.watch("unknown"):
                mix(3000)

    def drone(self, log: Any) -> None:
        self.watch.register()
        while True:
            with self.watch("logging"):
                for number in range(200):
                    log.info("still here, %d", number)
            self.after()
