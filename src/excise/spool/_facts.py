"""What is known of a segment file without reading it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_FIELDS = ("entries", "first", "last", "start_wall_ns", "end_wall_ns", "log_ns")
_MAX = 1 << 63


@dataclass(slots=True)
class FileFacts:
    bytes: int = 0
    entries: int = 0
    first: int | None = None  # numbers of its entries and gaps
    last: int | None = None
    start_wall_ns: int | None = None  # of its entries, the earliest start and the latest end
    end_wall_ns: int | None = None
    log_ns: int | None = None  # the log's clock at its last record; None: no record is readable

    def add(self, first: int, last: int, log_ns: int) -> None:
        """A record."""
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)
        self.log_ns = log_ns if self.log_ns is None else max(log_ns, self.log_ns)

    def add_entry(self, wall_ns: tuple[int, int] | None) -> None:
        """That a record is one, and its time."""
        self.entries += 1
        if wall_ns is not None:
            start, end = wall_ns
            self.start_wall_ns = start if self.start_wall_ns is None else min(start, self.start_wall_ns)
            self.end_wall_ns = end if self.end_wall_ns is None else max(end, self.end_wall_ns)

    def row(self) -> list[int | None]:
        """All but its bytes."""
        return [getattr(self, name) for name in _FIELDS]

    def outside(self, since_ns: int | None, until_ns: int | None) -> bool:
        """Whether none of its entries is of that time."""
        if self.start_wall_ns is None or self.end_wall_ns is None:
            return since_ns is not None or until_ns is not None
        return ((since_ns is not None and self.end_wall_ns <= since_ns)
                or (until_ns is not None and self.start_wall_ns >= until_ns))


def facts_of(row: Sequence[object]) -> FileFacts:
    """ValueError for what `row` did not make."""
    if len(row) != len(_FIELDS) or type(row[0]) is not int or not all(
            n is None or (type(n) is int and 0 <= n < _MAX) for n in row):
        raise ValueError("not the facts of a file")
    return FileFacts(0, *row)  # type: ignore[arg-type]
