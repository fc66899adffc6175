"""What an earlier process has left behind: counts, and numbers that were given out and never came to anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain

from excise.spool._facts import FileFacts
from excise.spool._folder import Folder
from excise.spool._log import Record, open_records
from excise.spool._slots import read_slots
from excise.spool._totals import Totals
from excise.spool.cursor import CURSOR_MAGIC
from excise.spool.entry import Gap


@dataclass(slots=True)
class Found:
    """Counts since the beginning, and what follows the last settled number."""

    settled: int
    last: int  # the highest number in the log
    written: int
    lost: dict[str, int]
    beyond: list[tuple[int, int]]  # numbers over `settled` that the log has
    log_ns: int
    wall_ns: int


def file_facts(folder: Folder, number: int) -> tuple[FileFacts, list[Record]]:
    """And its records, bodies not decoded; none of a file that is not ours to read."""
    facts, out = FileFacts(), list[Record]()
    records = open_records(folder, number)
    if records is None:
        return facts, out
    try:
        while (found := records.next()) is not None:
            mark, item = found
            if isinstance(item, Gap):
                first, last = item.first, item.last
            else:
                first = last = item.shipment.sequence
                facts.add_entry(item.shipment.wall_ns)
                item.drop()
            facts.add(first, last, mark.log_ns)
            out.append(Record(number, False, first, last, mark, item))
    finally:
        records.close()
    return facts, out


def recover(totals: Totals, files: dict[int, list[Record]]) -> Found:
    """From the totals and the records of the files that came after."""
    found = Found(totals.settled, totals.settled, totals.written, dict(totals.lost), [], totals.log_ns, totals.wall_ns)
    after: list[Record] = []
    for record in chain.from_iterable(files.values()):
        found.settled = max(found.settled, record.mark.settled)
        found.last = max(found.last, record.last)
        if record.mark.log_ns >= found.log_ns:
            found.log_ns = record.mark.log_ns
            wall_ns = None if isinstance(record.item, Gap) else record.item.shipment.wall_ns
            found.wall_ns = wall_ns[1] if wall_ns else found.wall_ns
        if record.last <= totals.settled:
            continue
        after.append(record)
        if isinstance(record.item, Gap):
            windows = record.last - max(record.first, totals.settled + 1) + 1
            found.lost[record.item.reason] = found.lost.get(record.item.reason, 0) + windows
        else:
            found.written += 1
    found.beyond = [(r.first, r.last) for r in after if r.last > found.settled]
    return found


def missing(settled: int, last: int, beyond: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The numbers over `settled` and up to `last` that are not in `beyond`."""
    out, at = [], settled + 1
    for first, end in sorted(beyond):
        if first > at:
            out.append((at, min(first - 1, last)))
        at = max(at, end + 1)
    if at <= last:
        out.append((at, last))
    return [(first, end) for first, end in out if first <= end]


def highest_acknowledged(folder: Folder) -> int:
    """By any sink: no number up to this one may be given again."""
    best = 0
    for name in folder.cursors():
        fd = folder.open_plain(name)
        if fd is None:
            continue
        try:
            known = read_slots(fd, CURSOR_MAGIC)
        except OSError:
            known = None
        finally:
            os.close(fd)
        best = max(best, known[0] if known else 0)
    return best
