"""Spools for the tests: entries that are small and known, a clock that is set, and what a sink gets."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from typical_summary import window

from excise.spool import Cursor, Entry, Gap, Item, Spool
from excise.summary import Span, Summary
from excise.workload import Workload

AGENT = "0123456789abcdef" * 2
VLLM, TRITON = Workload("vllm.service", "unit"), Workload("triton.service", "unit")
START_NS = 1_790_000_000_000_000_000
SECOND, HOUR, DAY, YEAR = 10**9, 3600 * 10**9, 86_400 * 10**9, 365 * 86_400 * 10**9


class Clock:
    """Wall time, ns; where it is set to."""

    def __init__(self) -> None:
        self.now = START_NS

    def __call__(self) -> int:
        return self.now


@cache
def summary(index: int) -> Summary:
    return window(1, index, stacks=4)


def summary_at(wall_ns: int, index: int = 0) -> Summary:
    """One whose window ends then."""
    made = summary(index)
    return replace(made, spans={source: (Span(wall_ns - 10 * SECOND, wall_ns, 5, 5 + 10 * SECOND),)
                                for source in made.spans})


def entry(number: int, workload: Workload = VLLM) -> Entry:
    return Entry(number, workload, summary(number % 8))


def make(folder: Path, clock: Clock | None = None, most_bytes: int = 100_000_000, keep_s: float = 86_400) -> Spool:
    return Spool(folder, AGENT, most_bytes, keep_s, clock or Clock())


def fill(spool: Spool, count: int) -> list[Entry]:
    made = [entry(number) for number in spool.reserve(count)]
    for one in made:
        assert spool.append(one)
    return made


def drain(cursor: Cursor, most: int = 7) -> list[Item]:
    """All that a sink gets, acknowledged."""
    out: list[Item] = []
    while items := cursor.next(most):
        out += items
        cursor.ack(last_of(items[-1]))
    return out


def delivered(folder: Path, name: str = "sink") -> list[Item]:
    cursor = Cursor(folder, name)
    try:
        return drain(cursor)
    finally:
        cursor.close()


def last_of(item: Item) -> int:
    return item.last if isinstance(item, Gap) else item.sequence


def numbers(items: Iterable[Item]) -> list[int]:
    """Of entries and gaps, in the order that they came in."""
    return [n for item in items for n in (range(item.first, item.last + 1) if isinstance(item, Gap)
                                          else [item.sequence])]


def entries(items: Iterable[Item]) -> list[Entry]:
    return [item for item in items if isinstance(item, Entry)]


def gaps(items: Iterable[Item]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def lost(items: Iterable[Item]) -> dict[str, int]:
    out: dict[str, int] = {}
    for gap in gaps(items):
        out[gap.reason] = out.get(gap.reason, 0) + gap.windows
    return out


def files(folder: Path) -> Sequence[Path]:
    return sorted(folder.glob("*.summaries"))
