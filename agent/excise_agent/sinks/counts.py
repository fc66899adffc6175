"""What became of a sink's windows, kept on disk beside its cursor: delivered + lost = all, over restarts too."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from excise.spool import Gap, Item

UNCOUNTED = "uncounted"  # the cursor jumped: delivered or not, nobody knows
REJECTED = "rejected"  # the server takes others, but not this one


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the windows from `first` to `through`, none yet when both are 0."""

    first: int = 0
    through: int = 0
    delivered: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)  # reason -> windows

    def after(self, items: Sequence[Item], rejected: Collection[int] = ()) -> Counts:
        """With items that are done with. What was counted before a crash and comes again is not counted again."""
        first, through, delivered, lost = self.first, self.through, self.delivered, dict(self.lost)
        for item in items:
            low, high = span(item)
            if high <= through:
                continue
            if not first:
                first, through = low, low - 1
            low = max(low, through + 1)
            if low > through + 1:
                lost[UNCOUNTED] = lost.get(UNCOUNTED, 0) + low - through - 1
            through = high
            if isinstance(item, Gap):
                lost[item.reason] = lost.get(item.reason, 0) + high - low + 1
            elif item.sequence in rejected:
                lost[REJECTED] = lost.get(REJECTED, 0) + 1
            else:
                delivered += 1
        return Counts(first, through, delivered, lost)


def span(item: Item) -> tuple[int, int]:
    """Its first and last sequence number."""
    return (item.first, item.last) if isinstance(item, Gap) else (item.sequence, item.sequence)


def read_counts(path: Path, agent: str) -> Counts:
    """Nothing counted when there is no file, another agent's, or one that cannot be read or makes no sense."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return Counts()
    with os.fdopen(fd, "rb") as file:
        content = file.read(1 << 16)
    try:
        told = json.loads(content)
        counts = Counts(told["first"], told["through"], told["delivered"], told["lost"])
        if told["agent"] != agent:
            return Counts()
        numbers = (counts.first, counts.through, counts.delivered, *counts.lost.values())
        if not all(type(n) is int and n >= 0 for n in numbers):
            return Counts()
        whole = counts.through - counts.first + 1 if counts.first else 0
        return counts if counts.delivered + sum(counts.lost.values()) == whole else Counts()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Counts()


def write_counts(path: Path, agent: str, counts: Counts) -> None:
    """Whole or not at all, on disk when it returns. OSError."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(json.dumps({"agent": agent, **asdict(counts)}).encode() + b"\n")
        file.flush()
        os.fdatasync(fd)
    aside.rename(path)
