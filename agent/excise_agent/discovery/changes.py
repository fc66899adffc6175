"""What a look at the host's processes has found."""

from __future__ import annotations

from dataclasses import dataclass, field

from excise.workload import Workload


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """A process, told apart from a later one with the same pid; it stays the same over an exec."""

    pid: int  # in the namespace that `proc` shows
    start_ns: int  # since boot, to a clock tick


@dataclass(frozen=True, slots=True)
class Found:
    """A process that is to be watched from now on."""

    pid: int
    start_ns: int
    workload: Workload
    why: str  # "maps libtorch_cpu.so", "rule 'vllm' in the configuration", "in the control group of process 4711"

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start_ns)


@dataclass(frozen=True, slots=True)
class Changes:
    """Since the last look. `gone` comes first: a process that is in both has changed its workload."""

    found: list[Found] = field(default_factory=list)  # parents before their children
    gone: list[Identity] = field(default_factory=list)
