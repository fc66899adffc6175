"""What Excise costs, measured by itself: its processes, its programs (1 run in 64 is timed), its timer's ticks."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from excise.records import PROG_CPU, PROG_SWITCH, PROG_TASK, PROG_WAKEUP, PROG_WAKING
from excise_agent.governor import Spent
from excise_agent.loader import Probes

PROGRAMS = {
    "on_cpu": PROG_CPU,
    "on_switch": PROG_SWITCH,
    "on_waking": PROG_WAKING,
    "on_wakeup": PROG_WAKEUP,
    "tasks": PROG_TASK,
}

_UNMEASURED_NS = 1_000.0  # a switch, before any was timed
_STEADY_RUNS = 32  # fewer timed runs than this do not outweigh what was known


def own_cpu_ns() -> int:
    """CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((children.ru_utime + children.ru_stime) * 1e9)


@dataclass(slots=True)
class Meter:
    """`take` gives what was spent since the last call; the sums since `start` stay readable."""

    probes: Probes
    tick_ns: float
    programs_ns: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    agent_ns: int = 0
    ticks: float = 0.0
    _costs: NDArray[np.void] | None = None
    _begun: NDArray[np.void] | None = None
    _cpu_ns: int = 0
    _at_ns: int = 0
    _mean_ns: dict[str, float] = field(default_factory=dict)

    def start(self, now_ns: int) -> None:
        """From here on it counts."""
        self._costs = self._begun = self.probes.costs()
        self._cpu_ns, self._at_ns = own_cpu_ns(), now_ns

    def take(self, now_ns: int, target_ns: int, samples_hz: float) -> Spent:
        """`target_ns`: CPU time of the target since the last call; `samples_hz`: ticks a second, all CPUs together."""
        assert self._costs is not None and self._begun is not None
        costs, cpu_ns = self.probes.costs(), own_cpu_ns()
        wall_ns, self._at_ns = now_ns - self._at_ns, now_ns
        agent_ns, self._cpu_ns = cpu_ns - self._cpu_ns, cpu_ns
        ticks = wall_ns / 1e9 * samples_hz
        ns: dict[str, float] = {}
        for name, i in PROGRAMS.items():
            timed = int(costs["timed_runs"][i] - self._costs["timed_runs"][i])
            if timed:
                mean = float(costs["timed_ns"][i] - self._costs["timed_ns"][i]) / timed
                known = self._mean_ns.get(name, mean)
                self._mean_ns[name] = known + (mean - known) * min(timed / _STEADY_RUNS, 1.0)
            runs = int(costs["runs"][i] - self._costs["runs"][i])
            ns[name] = runs * self._mean_ns.get(name, 0.0)
            self.programs_ns[name] = self.programs_ns.get(name, 0.0) + ns[name]
            self.runs[name] = self.runs.get(name, 0) + runs
        self._costs = costs
        self.agent_ns += agent_ns
        self.ticks += ticks
        switch_ns = sum(ns[name] for name in ("on_switch", "on_waking", "on_wakeup", "tasks"))
        return Spent(wall_ns, target_ns, agent_ns, round(switch_ns), round(ns["on_cpu"] + ticks * self.tick_ns))

    def switch_ns(self) -> float:
        """Of the switch program alone, since the last `take`: one look-up, for a look in between."""
        if self._costs is None:
            return 0.0
        runs = self.probes.runs(PROG_SWITCH) - int(self._costs["runs"][PROG_SWITCH])
        return runs * self._mean_ns.get("on_switch", _UNMEASURED_NS)

    def mean_ns(self, name: str) -> int | None:
        """ns of a run of a program, over all timed ones since `start`; None: none was."""
        if self._costs is None or self._begun is None:
            return None
        i = PROGRAMS[name]
        timed = int(self._costs["timed_runs"][i] - self._begun["timed_runs"][i])
        return round(float(self._costs["timed_ns"][i] - self._begun["timed_ns"][i]) / timed) if timed else None
