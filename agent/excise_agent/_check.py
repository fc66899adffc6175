"""One row of what a host allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["ok", "degraded", "missing", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the host. `lost` says what is gone without it, `fix` the command that would give it."""

    name: str
    status: Status
    found: str
    lost: str = ""
    fix: str = ""
