"""Sentences that a reader of a report must know, whatever it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

PHASED: Final = "switches "  # how the governor's steps are called that take the hooks out
MUCH_PHASED: Final = 0.05
MUCH_UNATTRIBUTED: Final = 0.1  # of busy time: from here on the tax alone would mislead


def doubt(stages: Mapping[str, Mapping[str, int | None]]) -> list[str]:
    """How far the tax may be off when much time has no stage: it counts as tax, and may be the model."""
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    busy = sum(sums.values()) - sums["idle"] - sums["handoff"]
    if busy <= 0 or sums["unattributed"] < MUCH_UNATTRIBUTED * busy:
        return []
    low, high = 1 - (sums["compute"] + sums["unattributed"]) / busy, 1 - sums["compute"] / busy
    return [
        f"{sums['unattributed'] / busy:.0%} of busy time has no stage and counts as tax: "
        f"the tax lies between {max(low, 0):.0%} and {high:.0%}"
    ]


def phased(steps_ns: Mapping[str, int], way_out: str = "--budget none sees all") -> list[str]:
    """When the governor took the switch hooks out for much of the time. `steps_ns`: how long each step was taken."""
    whole = sum(steps_ns.values())
    share = sum(ns for name, ns in steps_ns.items() if name.startswith(PHASED)) / whole if whole else 0.0
    if share <= MUCH_PHASED:
        return []
    return [
        f"to keep to its budget Excise saw switches in short phases only for {share:.0%} of the time: "
        f"which stages waited is rough there, see the errors; {way_out}"
    ]


def untracked(lost: Mapping[str, int]) -> list[str]:
    """When threads found no room. `lost`: of names.DROPS."""
    count = lost.get("threads_untracked", 0)
    return [f"{count} threads found no room in the kernel's table and are not in these figures"] if count else []


def of_processes(noted: Iterable[tuple[int, str, str]]) -> list[str]:
    """(pid, comm, note), grouped: a thousand workers of one program with one note are one sentence."""
    groups: dict[tuple[str, str], list[int]] = {}
    for pid, comm, note in noted:
        if note:
            groups.setdefault((comm, note), []).append(pid)
    return [
        f"process {pids[0]} ({comm}): {note}" if len(pids) == 1
        else f"process {pids[0]} and {len(pids) - 1:,} more ({comm}): {note}"
        for (comm, note), pids in groups.items()
    ]
