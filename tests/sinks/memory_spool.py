"""A spool in memory with room for so many entries, and cursors into it: the contract, without a disk."""

from __future__ import annotations

from excise.spool import Entry, Gap, Item
from excise_agent.sinks.shipper import Shipper


class MemorySpool:
    def __init__(self, room: int = 1 << 30) -> None:
        self.items: list[Item] = []
        self._room = room
        self._dropped = 0  # the last number that was

    def append(self, *items: Item) -> None:
        self.items += items
        while sum(isinstance(item, Entry) for item in self.items) > self._room:
            gone = self.items.pop(0)
            self._dropped = gone.last if isinstance(gone, Gap) else gone.sequence

    def after(self, acked: int) -> list[Item]:
        gap: list[Item] = [Gap(acked + 1, self._dropped, "full")] if self._dropped > acked else []
        return gap + [item for item in self.items
                      if (item.last if isinstance(item, Gap) else item.sequence) > max(acked, self._dropped)]


class MemoryCursor:
    """`acked` is what a disk would keep: give it to the next one."""

    def __init__(self, spool: MemorySpool, acked: int = 0) -> None:
        self.spool, self.acked, self.closed = spool, acked, False

    def next(self, most: int) -> list[Item]:
        return self.spool.after(self.acked)[:most]

    def ack(self, sequence: int) -> None:
        self.acked = max(self.acked, sequence)

    def lag(self) -> int:
        return sum(item.windows if isinstance(item, Gap) else 1 for item in self.spool.after(self.acked))

    def close(self) -> None:
        self.closed = True


def ship_all(ship: Shipper, cursor: MemoryCursor, rounds: int = 200) -> None:
    """Until nothing is left."""
    for _ in range(rounds):
        if not cursor.lag():
            return
        ship.step()
    raise AssertionError(f"{cursor.lag()} windows are still there: {ship.state()}")
