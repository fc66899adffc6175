"""The records of a spool's files, one after the other, from where it stopped; bodies are decoded when asked for."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from excise.framing import Damaged
from excise.spool._envelope import Mark, Shipment, read_gap, read_shipment
from excise.spool._folder import Folder, segment_name
from excise.spool._frames import SEGMENT, Frame, FrameReader
from excise.spool.entry import Entry, Gap
from excise.summary._decode import decode_summary
from excise.summary._definitions import Defined
from excise.summary._lists import Lists
from excise.summary._payload import decode_payload
from excise.summary.schema import FRAME_TYPES

_NAMES: Final = {number: name for name, number in FRAME_TYPES.items()}


class _Segment:
    """What a segment has defined so far; decoded when the first summary is."""

    def __init__(self) -> None:
        self.crc = 0
        self.count = 0  # payloads of definitions
        self._new: deque[bytes] = deque()  # those that are not decoded yet
        self._broken = False
        self._lists: Lists | None = None
        self._defined = Defined([])

    def define(self, payload: bytes) -> None:
        """The head's comes first."""
        self.crc = zlib.crc32(payload, self.crc)
        self.count += 1
        self._new.append(payload)

    def entry(self, shipment: Shipment, payload: bytes, count: int) -> Entry:
        """It came when there were so many definitions; those behind it may be damaged. Raises Damaged."""
        while self.count - len(self._new) < count and not self._broken:
            self._broken = True  # until it is through: half of it would shift the numbers of what follows
            content = decode_payload(self._new.popleft())
            if self._lists is None:
                self._lists = Lists.decode(content)
                self._defined = Defined(list(self._lists.frame_kinds))
            else:
                self._defined.add(content)
            self._broken = False
        if self._broken or self._lists is None:
            raise Damaged("its segment's definitions are malformed")
        summary = decode_summary(decode_payload(payload), self._defined, self._lists)
        return Entry(shipment.sequence, shipment.workload, summary)


class Sealed:
    """An entry that is not decoded yet."""

    def __init__(self, shipment: Shipment, payload: bytes, segment: _Segment) -> None:
        self.shipment = shipment
        self._payload = payload
        self._segment: _Segment | None = segment if segment.crc == shipment.defined else None  # None: some were lost
        self._count = segment.count

    @property
    def held_bytes(self) -> int:
        return len(self._payload)

    def drop(self) -> None:
        """Its body, and what that needs."""
        self._payload, self._segment = b"", None

    def open(self) -> Entry | None:
        """None: damaged."""
        try:
            return self._segment.entry(self.shipment, self._payload, self._count) if self._segment else None
        except Damaged:
            return None


@dataclass(frozen=True, slots=True)
class Record:
    """[first, last] and what there is of it."""

    file: int
    gone: bool  # the first one behind files that are gone
    first: int
    last: int
    mark: Mark
    item: Sealed | Gap


class FileRecords:
    """The records of one file."""

    def __init__(self, frames: FrameReader) -> None:
        self._frames = frames
        self._segment = _Segment()
        self._shipment: Shipment | None = None

    def next(self) -> tuple[Mark, Sealed | Gap] | None:
        """None: no whole one, not yet or no more."""
        while True:
            damages = self._frames.damages
            frame = self._frames.next()
            if frame is None:
                return None
            if self._frames.damages > damages:
                self._shipment = None
            found = self._take(frame)
            if found is not None:
                return found

    def close(self) -> None:
        self._frames.close()

    def _take(self, frame: Frame) -> tuple[Mark, Sealed | Gap] | None:
        shipment, self._shipment = self._shipment, None
        if frame.kind == SEGMENT:
            self._segment = _Segment()
            return None
        name = _NAMES.get(frame.kind)
        if name in ("head", "definitions"):
            self._segment.define(frame.payload)
        elif name == "summary" and shipment is not None:
            return shipment.mark, Sealed(shipment, frame.payload, self._segment)
        try:
            if name == "shipment":
                self._shipment = read_shipment(decode_payload(frame.payload))
            elif name == "gap":
                gap, mark = read_gap(decode_payload(frame.payload))
                return mark, gap
        except Damaged:
            return None
        return None


class LogReader:
    """Reads the files from number `start` on but those to `skip`, and those that come; what is not ours to read is
    passed over."""

    def __init__(self, folder: Folder, start: int = 1, skip: Collection[int] = ()) -> None:
        self._folder, self._skip = folder, skip
        self._file = max(start - 1, 0)  # the one that is read, or was last
        self._records: FileRecords | None = None
        self._gone = False

    @property
    def file(self) -> int:
        return self._file

    def read(self) -> Record | None:
        """None: nothing more for now."""
        while True:
            found = self._records.next() if self._records else None
            if found is None and self._records is None:
                if not self._open_next():
                    return None
            elif found is None:
                # whoever writes the next file has ended this one: look once more, then go on
                if not any(number > self._file for number in self._numbers()):
                    return None
                assert self._records is not None
                found = self._records.next()
                if found is None:
                    self.close()
            if found is not None:
                return self._record(*found)

    def close(self) -> None:
        records, self._records = self._records, None
        if records is not None:
            records.close()

    def _record(self, mark: Mark, item: Sealed | Gap) -> Record:
        gone, self._gone = self._gone, False
        first, last = (item.first, item.last) if isinstance(item, Gap) else (item.shipment.sequence,) * 2
        return Record(self._file, gone, first, last, mark, item)

    def _numbers(self) -> list[int]:
        """None where the disk fails: perhaps later."""
        try:
            return self._folder.segments()
        except OSError:
            return []

    def _open_next(self) -> bool:
        for number in self._numbers():
            if number <= self._file:
                continue
            self._gone |= number > self._file + 1
            self._file = number
            if number in self._skip:
                continue
            records = open_records(self._folder, number)
            if records is not None:
                self._records = records
                return True
            self._gone = True
        return False


def open_records(folder: Folder, number: int) -> FileRecords | None:
    """Of one file. None: it is gone, or not ours to read."""
    fd = folder.open_plain(segment_name(number))
    return None if fd is None else FileRecords(FrameReader(fd))


def records_of(folder: Folder, number: int) -> Iterator[tuple[Mark, Sealed | Gap]]:
    """What one file has now."""
    records = open_records(folder, number)
    if records is None:
        return
    try:
        while (found := records.next()) is not None:
            yield found
    finally:
        records.close()
