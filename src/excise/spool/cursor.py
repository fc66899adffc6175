"""How far a sink has got: what it is to deliver next, and what it has delivered, on disk."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Final

from excise.spool._folder import Folder, cursor_name
from excise.spool._log import LogReader, Sealed, records_of
from excise.spool._order import InOrder, Placed
from excise.spool._slots import Slots
from excise.spool._totals import read_totals
from excise.spool.entry import Gap, Item
from excise.spool.errors import SpoolError

CURSOR_MAGIC: Final = b"excursor"  # numbers: the last one that was acknowledged, the file to begin with


class Cursor:
    """A sink's place in the spool of `folder`. One at a time by its name: a second one gets a SpoolError.

    It begins with the oldest entry that there is when it is first made. `note` is a sentence for the user when the
    place was lost and it began with the oldest again. Threads may share it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.note = ""
        self.write_failures = 0  # acknowledgements that could not be written: delivered again after a restart
        self._lock, self._lag_lock = threading.Lock(), threading.Lock()
        self._ready: deque[Placed] = deque()
        self._given: deque[tuple[Placed, Item]] = deque()
        self._folder = Folder(folder, own=True)
        self._fd = -1
        try:
            self._fd = _claim(self._folder, cursor_name(name))
            self._slots = Slots(self._fd, CURSOR_MAGIC)
            if self._slots.damaged:
                self.note = (f"{folder / cursor_name(name)} was damaged: this sink begins again with the oldest "
                             "summary; some will come twice")
            known = self._slots.value
            self._acked, self._file = known or (_before_oldest(self._folder), 1)  # the file to begin with
            self._order = InOrder(self._acked + 1)
            self._reader = LogReader(self._folder, self._file)
            self._last = 0
            self._ahead = LogReader(self._folder, max(self._folder.segments(), default=1))  # for `lag`
            if known is None:
                self._save()
        except BaseException:
            self._folder.close()
            if self._fd >= 0:
                os.close(self._fd)
            raise

    def next(self, most: int) -> list[Item]:
        """At most so many of what follows the last one that was acknowledged, in order; the same again until they are.
        Empty: nothing new, or closed."""
        with self._lock:
            if self._fd < 0:
                return []
            while len(self._ready) + len(self._given) < most and (record := self._reader.read()) is not None:
                self._ready += self._order.take(record)
            while len(self._given) < most and self._ready:
                placed = self._ready.popleft()
                self._given.append((placed, _open(placed)))
            return [item for _, item in islice(self._given, most)]

    def ack(self, sequence: int) -> None:
        """All up to this number are delivered: an entry's sequence, or a gap's last. On the disk when it returns (else
        `write_failures` counts it). A smaller one than before does nothing. ValueError: it was never given out."""
        with self._lock:
            if sequence <= self._acked or self._fd < 0:
                return
            if not self._given or sequence > self._given[-1][0].last:
                raise ValueError(f"{sequence} was acknowledged before it was given out")
            while self._given and self._given[0][0].last <= sequence:
                self._given.popleft()
            if self._given and self._given[0][0].first <= sequence:  # within a gap
                self._given[0] = _rest(self._given[0][0], sequence + 1)
            self._acked = sequence
            self._save()

    def lag(self) -> int:
        """How many numbers of the log are not acknowledged yet."""
        with self._lag_lock:
            while self._fd >= 0 and (record := self._ahead.read()) is not None:
                self._last = max(self._last, record.last, record.mark.settled)
            return max(self._last - self._acked, 0)

    def close(self) -> None:
        with self._lock, self._lag_lock:
            self._reader.close()
            self._ahead.close()
            self._folder.close()
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def _save(self) -> None:
        files = [self._reader.file, self._order.oldest_file(), *(p.file for p in islice(self._ready, 1)),
                 *(placed.file for placed, _ in self._given)]
        self._file = max(self._file, min(file for file in files if file is not None))
        try:
            self._slots.put(self._acked, self._file)
        except OSError:
            self.write_failures += 1


def _claim(folder: Folder, name: str) -> int:
    fd = folder.open_own(name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise SpoolError(f"{folder.path / name} is in use: give each sink a name of its own") from error
    return fd


def _open(placed: Placed) -> Item:
    if isinstance(placed.item, Sealed):
        return placed.item.open() or Gap(placed.first, placed.last, "damaged")
    return placed.item


def _rest(placed: Placed, first: int) -> tuple[Placed, Item]:
    assert isinstance(placed.item, Gap)
    gap = Gap(first, placed.last, placed.item.reason)
    return placed._replace(first=first, item=gap), gap


def _before_oldest(folder: Folder) -> int:
    """The number before the first one that the log still has."""
    for number in folder.segments():
        for mark, item in records_of(folder, number):
            first = item.first if isinstance(item, Gap) else item.shipment.sequence
            return min(first - 1, mark.settled)
    totals = read_totals(folder)
    return totals.settled if totals else 0
