"""The stacks that cost most in a stage, over all states and threads: what the table lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from excise.exporters._labels import ON_CPU
from excise.frames import Frame
from excise.report import StackRow


@dataclass(frozen=True, slots=True)
class CostlyStack:
    frames: tuple[Frame, ...]           # leaf first, with the lines of the heaviest row
    ns: int
    states: tuple[tuple[str, int], ...]   # "on-CPU" or a waiting state -> ns, heaviest first
    wait: str                           # what the heaviest wait waited on; "" unknown or no wait
    reason: str | None


def costliest(rows: Iterable[StackRow], stage: str, top: int) -> list[CostlyStack]:
    """The `top` stacks of carriers in a stage. Lines apart, equal stacks are one. Lighter stacks are no stack."""
    groups: defaultdict[tuple[object, ...], list[StackRow]] = defaultdict(list)
    for row in rows:
        if row.carrier and row.stage == stage and row.ns > 0 and not row.missing:
            groups[row.reason, tuple((f.kind, f.file, f.name) for f in row.frames)].append(row)
    return sorted(map(_merged, groups.values()), key=lambda s: -s.ns)[:top]


def lighter_ns(rows: Iterable[StackRow], stage: str) -> int:
    """Time of carriers in a stage that is in stacks too light to be kept."""
    return sum(row.ns for row in rows if row.carrier and row.stage == stage and row.missing)


def _merged(rows: list[StackRow]) -> CostlyStack:
    states: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        states["on-CPU" if row.state in ON_CPU else row.state] += row.ns
    heaviest = max(rows, key=lambda r: r.ns)
    waiting = max((r for r in rows if r.state not in ON_CPU), key=lambda r: r.ns, default=None)
    return CostlyStack(
        frames=heaviest.frames,
        ns=sum(states.values()),
        states=tuple(sorted(states.items(), key=lambda item: -item[1])),
        wait=waiting.wait if waiting else "",
        reason=heaviest.reason,
    )
