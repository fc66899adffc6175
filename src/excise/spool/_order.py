"""Records in the order of their numbers, each once; what is missing for good becomes a gap."""

from __future__ import annotations

import heapq
from typing import Final, NamedTuple

from excise.spool._log import Record, Sealed
from excise.spool.entry import Gap

_MOST_HELD: Final = 4096
_MOST_HELD_BYTES: Final = 32 << 20
"""Records that wait for a smaller number. A writer's wait for the end of a window; beyond this the log is made up."""


class Placed(NamedTuple):
    file: int  # where it stands, or the file that showed that it is missing
    first: int
    last: int
    item: Sealed | Gap


class InOrder:
    def __init__(self, first: int) -> None:
        self.next = first
        self._settled = 0
        self._aged = 0  # what is missing up to here was in files that are gone
        self._held: list[tuple[int, int, Record]] = []  # a heap, by number and arrival
        self._arrived = 0
        self._bytes = 0

    def take(self, record: Record) -> list[Placed]:
        """What is next now."""
        if record.gone:
            self._aged = max(self._aged, record.mark.settled)
        self._settled = max(self._settled, record.mark.settled)
        if record.last >= self.next:
            self._arrived += 1
            self._bytes += _size(record)
            heapq.heappush(self._held, (record.first, self._arrived, record))
        out: list[Placed] = []
        while self._held and self._step(record.file, out):
            pass
        if not self._held and self.next <= self._settled:
            self._miss(self._settled, record.file, out)
        return out

    def oldest_file(self) -> int | None:
        """Of the records that wait."""
        return min((record.file for _, _, record in self._held), default=None)

    def _step(self, file: int, out: list[Placed]) -> bool:
        record = self._held[0][2]
        too_many = len(self._held) > _MOST_HELD or self._bytes > _MOST_HELD_BYTES
        if record.first > self.next:
            last = record.first - 1 if too_many else min(self._settled, record.first - 1)
            if last < self.next:
                return False
            self._miss(last, file, out)
            return True
        heapq.heappop(self._held)
        self._bytes -= _size(record)
        if record.last >= self.next:
            item = record.item
            if isinstance(item, Gap):
                item = Gap(self.next, item.last, item.reason)
            out.append(Placed(record.file, self.next, record.last, item))
            self.next = record.last + 1
        return True

    def _miss(self, last: int, file: int, out: list[Placed]) -> None:
        for end, reason in ((min(last, self._aged), "aged"), (last, "damaged")):
            if end >= self.next:
                out.append(Placed(file, self.next, end, Gap(self.next, end, reason)))
                self.next = end + 1


def _size(record: Record) -> int:
    return 0 if isinstance(record.item, Gap) else record.item.held_bytes
