"""Which range of time a history's report is of, and how much of it was watched, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from excise.exporters._units import duration, plural
from excise.printable import printable
from excise.report import History, Hole
from excise.workload import Workload

MOST_HOLES: Final = 4
_ID_LENGTH: Final = 12  # of a container's id: what its runtime prints


def workload_name(workload: Workload) -> str:
    """`vllm`, `vllm.service (unit)`, `3f2a91c0b7de (container)`."""
    name = workload.name
    if workload.kind == "container" and len(name) == 64 and all(c in "0123456789abcdef" for c in name):
        name = name[:_ID_LENGTH]
    return printable(name) if workload.kind == "rule" else f"{printable(name)} ({workload.kind})"


def moment(wall_ns: int) -> str:
    """Local time, to the second; a number where a calendar has no such year."""
    when = _local(wall_ns)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else f"{wall_ns} ns"


def range_words(start_wall_ns: int, end_wall_ns: int) -> str:
    """`2026-11-24 10:12:00 to 10:22:00 CET`: local time, a date once."""
    start, end = _local(start_wall_ns), _local(end_wall_ns)
    if start is None or end is None:
        return f"{moment(start_wall_ns)} to {moment(end_wall_ns)}"
    until = f"{end:%H:%M:%S}" if end.date() == start.date() else moment(end_wall_ns)
    return f"{moment(start_wall_ns)} to {until} {end.tzname() or ''}".rstrip()


def watched_words(history: History) -> str:
    """`watched 580 s of 600 s in 58 windows`."""
    whole = history.end_wall_ns - history.start_wall_ns
    if not history.holes:
        return f"watched all {duration(whole)}, in {plural(history.windows, 'window')}"
    return f"watched {duration(history.watched_ns)} of {duration(whole)}, in {plural(history.windows, 'window')}"


def holes_words(history: History) -> str:
    """The longest stretches that were not watched, in their order, and why."""
    longest = sorted(history.holes, key=lambda hole: hole.start_wall_ns - hole.end_wall_ns)[:MOST_HOLES]
    words = [_hole_words(hole) for hole in sorted(longest, key=lambda hole: hole.start_wall_ns)]
    if (more := len(history.holes) - len(words)) > 0:
        words.append(f"{more:,} shorter ones")
    return "; ".join(words)


def _hole_words(hole: Hole) -> str:
    length = duration(hole.end_wall_ns - hole.start_wall_ns)
    reason = f": {printable(hole.reason)}" if hole.reason else ""
    return f"{range_words(hole.start_wall_ns, hole.end_wall_ns)} ({length}{reason})"


def _local(wall_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(wall_ns // 10**9).astimezone()
    except (OverflowError, ValueError, OSError):
        return None
