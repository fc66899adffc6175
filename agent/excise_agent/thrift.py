"""Keeps our own cost within its budget: takes stock of it, asks the governor, and tells what it came to."""

from __future__ import annotations

import os
import time
from typing import Any

from excise.batch import Cost
from excise_agent.activity import Activity
from excise_agent.governor import Governor, Step
from excise_agent.host import read_cpu_ns
from excise_agent.loader import Probes, Ring
from excise_agent.spending import PROGRAMS, Meter
from excise_agent.targets import Targets
from excise_agent.timers import Timers

ALARM_NS = 500_000_000  # how often the switches are counted between two accounts: a look costs 60 us
ALARM_BYTES_S = 2_000_000  # at once when so much comes through the ring: 20 000 records a second
ALARM_FACTOR = 4.0  # of what the budget allows in a second
SAMPLE_NS = 8_000  # of on_cpu, before any was measured


class Thrift:
    """`step` is what was carried out; carrying out another one that is asked for is the caller's."""

    def __init__(self, probes: Probes, targets: Targets, timers: Timers, governor: Governor, tick_ns: float) -> None:
        self._probes, self._targets, self._timers, self._governor = probes, targets, timers, governor
        self._tick_ns = tick_ns
        self._meter = Meter(probes, tick_ns)
        self.step = governor.step
        self._account_ns = self._next_alarm_ns = self._looked_ns = self._produced = 0
        self._told: dict[str, int] = {}  # our cost at the last window's end
        self._cpu_ns: dict[int, int] = {}  # of the target, by process, when it was last looked at

    @property
    def programs_ns(self) -> int:
        return round(sum(self._meter.programs_ns.values()))

    @property
    def ticks_ns(self) -> int:
        return round(self._meter.ticks * self._tick_ns)

    def expect(self, activity: Activity) -> Step:
        """The step to begin with, before any probe is on."""
        samples_hz = self._timers.rate_hz * (os.cpu_count() or 1)
        return self._governor.expect(activity.switches_hz, activity.cores, samples_hz, self._tick_ns + SAMPLE_NS)

    def start(self, now_ns: int) -> None:
        """From here on it counts."""
        self._meter.start(now_ns)
        self._account_ns = now_ns
        self._target_cpu_ns()

    def carry_out(self, step: Step) -> None:
        """What is walked, sent and sampled from now on. The switch hooks are not touched."""
        self.step = step
        self._probes.thin(step.walk_one_in, step.block_ns, 1 / step.rate_ratio)
        self._timers.slow_to(step.rate_ratio)

    def account(self, urgent: bool = False) -> Step:
        """Takes stock, and says which step to take from here on."""
        self._account_ns = time.monotonic_ns()
        spent = self._meter.take(self._account_ns, self._target_cpu_ns(), self._timers.samples_hz)
        return self._governor.account(spent, urgent)

    def alarmed(self, ring: Ring) -> bool:
        """Between two accounts: whether switches alone have eaten several times what a second allows."""
        if not self._governor.may_step_down:
            return False
        now, produced = time.monotonic_ns(), int(ring.producer[0])
        rush = (produced - self._produced) * 1e9 > ALARM_BYTES_S * max(now - self._looked_ns, 1)
        self._produced, self._looked_ns = produced, now
        if not rush and now < self._next_alarm_ns:
            return False
        self._next_alarm_ns = now + ALARM_NS
        cores = len(self._probes.timers) or 1
        return self._meter.switch_ns() > ALARM_FACTOR * self._governor.budget_cores(cores) * (now - self._account_ns)

    def cost(self, start_ns: int, end_ns: int, target_ns: int) -> Cost:
        """Of a window, which ends now: an account is taken, so that windows share nothing."""
        self.account()
        sums = {
            "agent_ns": self._meter.agent_ns,
            "bpf_ns": self.programs_ns,
            "tick_ns": self.ticks_ns,
            **self._governor.steps_ns,
        }
        grown = {name: ns - self._told.get(name, 0) for name, ns in sums.items()}
        self._told = sums
        parts = {name: grown.pop(name) for name in ("agent_ns", "bpf_ns", "tick_ns")}
        steps_ns = {name: ns for name, ns in grown.items() if ns}
        return Cost(start_ns, end_ns, {**parts, "target_cpu_ns": target_ns, "steps_ns": steps_ns})

    def overhead(self, target_ns: int) -> dict[str, Any]:
        """Our cost since the start as a share of the target's CPU time: our processes, the programs, the ticks."""

        def ratio(ns: float) -> float | None:
            return round(ns / target_ns, 6) if target_ns > 0 else None

        meter = self._meter
        return {
            "agent_cpu_ratio": ratio(meter.agent_ns),
            "bpf_cpu_ratio": ratio(sum(meter.programs_ns.values())),
            "tick_cpu_ratio": ratio(meter.ticks * self._tick_ns),
            "target_cpu_ns": target_ns,
            "tick_ns": round(self._tick_ns),
            "programs": {name: {"runs": meter.runs.get(name, 0), "mean_ns": meter.mean_ns(name)} for name in PROGRAMS},
            "governor": {
                "budget_ratio": self._governor.budget_ratio,
                "step": self._governor.step.name,
                "steps_ns": dict(self._governor.steps_ns),
            },
        }

    def _target_cpu_ns(self) -> int:
        """CPU time of the target since the last call, by /proc: to a clock tick for each process."""
        read = {pid: cpu_ns for pid in self._targets.pids() if (cpu_ns := read_cpu_ns(pid, children=True)) is not None}
        grown = sum(max(cpu_ns - self._cpu_ns.get(pid, cpu_ns), 0) for pid, cpu_ns in read.items())
        self._cpu_ns = read
        return grown
