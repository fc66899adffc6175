"""The sampling timers: one on each CPU that a watched thread may use, with a period that varies."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from excise_agent.loader import Probes

JITTER = 0.2  # the sampling period varies by this share, so that it cannot lock on to a loop
JITTER_NS = 300_000_000  # how often it varies: setting a period costs 65 us, an interrupt on that CPU
JITTER_CPUS = 16  # of at most this many CPUs each time


@dataclass(slots=True)
class Timers:
    """`rate_hz` 0: none. Who changes it calls `follow`, once what was sampled so far was taken."""

    probes: Probes
    rate_hz: float
    _ratio: float = 1.0
    _set_hz: float = 0.0  # the timers are set by this one
    _next_ns: int = 0
    _at: int = 0
    _random: random.Random = field(default_factory=random.Random)

    @property
    def period_ns(self) -> int:
        """Of the rate that was asked for: what a sample of weight one stands for; 0: none are taken."""
        return round(1e9 / self.rate_hz) if self.rate_hz > 0 else 0

    @property
    def samples_hz(self) -> float:
        """Ticks a second on all CPUs together, at the present rate."""
        return self.rate_hz * self._ratio * len(self.probes.timers)

    def follow(self, cpus: list[int]) -> None:
        """Timers on these CPUs and on no others, at the present rate. Raises LoadError."""
        if self.rate_hz <= 0:
            self.probes.set_timers([], 0)
            return
        self.probes.set_timers(cpus, self._present_ns())
        if self._set_hz != self.rate_hz:
            self._set_hz = self.rate_hz
            self._set_periods()

    def slow_to(self, ratio: float) -> None:
        """A part of the rate that was asked for."""
        if ratio == self._ratio:
            return
        self._ratio = ratio
        self._set_periods()

    def vary(self, now_ns: int) -> None:
        """Gives some CPUs another period, when it is time."""
        cpus = list(self.probes.timers)
        if not cpus or now_ns < self._next_ns:
            return
        self._next_ns = now_ns + JITTER_NS
        for i in range(self._at, self._at + min(len(cpus), JITTER_CPUS)):
            period_ns = round(self._present_ns() * self._random.uniform(1 - JITTER, 1 + JITTER))
            self.probes.set_period(cpus[i % len(cpus)], period_ns)
        self._at = (self._at + JITTER_CPUS) % len(cpus)

    def _set_periods(self) -> None:
        for cpu in self.probes.timers:
            self.probes.set_period(cpu, self._present_ns())

    def _present_ns(self) -> int:
        return round(self.period_ns / self._ratio)
