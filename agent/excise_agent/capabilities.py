"""What this host allows: asked once; `doctor` prints it, `attach` decides by it, recordings carry it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from excise_agent import _checks_kernel, _checks_tools
from excise_agent._check import Check
from excise_agent._doors import Doors

Attach: TypeAlias = Literal["bpf", "py-spy", "none"]

NEEDED_FOR_BPF: Final = (
    "machine",
    "kernel",
    "lockdown",
    "bpf",
    "btf",
    "ring_buffer",
    "raw_tracepoints",
    "timer",
    "compiler",
    "target",
)
"""Checks that attach cannot do without."""
NEEDED_FOR_PYSPY: Final = ("py_spy", "target")


@dataclass(frozen=True, slots=True)
class Capabilities:
    checks: tuple[Check, ...]

    def __getitem__(self, name: str) -> Check:
        """The row of that name; KeyError: no such check."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def usable(self, name: str) -> bool:
        """Whether it is there, in full or in part."""
        return self[name].status in ("ok", "degraded")

    @property
    def attach(self) -> Attach:
        """The best way to watch a process here."""
        if all(map(self.usable, NEEDED_FOR_BPF)):
            return "bpf"
        return "py-spy" if all(map(self.usable, NEEDED_FOR_PYSPY)) else "none"

    @property
    def blockers(self) -> tuple[Check, ...]:
        """Why attach cannot use BPF; empty: it can."""
        return tuple(self[name] for name in NEEDED_FOR_BPF if not self.usable(name))

    def to_json(self) -> dict[str, Any]:
        return {"attach": self.attach, "checks": [asdict(check) for check in self.checks]}


def collect_capabilities(pid: int | None = None, doors: Doors | None = None) -> Capabilities:
    """Asks the host everything, in about 0.02 s. `pid` is whose memory is read as the test of a target.

    Without one it is our parent, or ourselves where the parent cannot be seen.
    """
    doors = doors if doors is not None else Doors(root=Path("/"), uid=os.geteuid())
    return Capabilities((*_checks_kernel.rows(doors, pid), *_checks_tools.rows(doors)))
