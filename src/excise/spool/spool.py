"""The writer's side of the log: numbers, appends, losses, and what is dropped."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from excise.spool._clock import LogClock
from excise.spool._envelope import MAX_SEQUENCE, Mark, gap_content, shipment_content, wall_of
from excise.spool._facts import FileFacts
from excise.spool._file import LogFile
from excise.spool._folder import LAST_FILE, Folder, segment_name
from excise.spool._log import Record
from excise.spool._recover import file_facts, highest_acknowledged, missing, recover
from excise.spool._slots import Slots
from excise.spool._totals import Totals, read_totals, write_totals
from excise.spool.entry import Entry, Gap
from excise.spool.errors import SpoolError
from excise.spool.state import SpoolState

SEGMENT_BYTES: Final = 8 << 20
"""Of a file, and never over an eighth of the cap. Each file has its definitions again: of a workload with 50 stacks
4 KB, 3 % of the file for 64 of them."""

SEGMENT_NS: Final = 3_600_000_000_000  # by the log's clock
MIN_SEGMENT_BYTES: Final = 64 << 10
MOST_FILES: Final = 4096
"""An agent that starts again and again begins a file each time."""

MOST_GAPS: Final = 1000
"""That wait for space on the disk, for days perhaps: beyond this neighbours go under one reason."""

NUMBERS_MAGIC: Final = b"exnumber"  # numbers: the last one that was given out, 0


class Spool:
    """The log in `folder` of the agent with the id `agent`; docs/spool.md has the format and what is promised.

    `most_bytes` and `keep_s` bound what is kept; `clock`: wall time, ns. One writer at a time. Threads may share it.
    """

    def __init__(self, folder: Path, agent: str, most_bytes: int, keep_s: float,
                 clock: Callable[[], int] = time.time_ns) -> None:
        """SpoolError: the folder is not ours alone, another agent writes to it, or the disk does not let us."""
        self._agent = agent
        self._lock = threading.Lock()
        self.limit(most_bytes, keep_s)
        self._reserving = threading.Lock()  # a slow disk holds up who asks for numbers, not who appends
        self._lock_fd = self._numbers_fd = -1
        self._closed = False
        self._folder = Folder(folder, own=True)
        self._file = LogFile(self._folder, 1)
        try:
            self._lock_fd = _take_lock(self._folder)
            self._numbers_fd = self._folder.open_own("numbers")
            self._numbers = Slots(self._numbers_fd, NUMBERS_MAGIC)
            self._recover(clock)
        except OSError as error:
            self._abandon()
            raise SpoolError(f"{folder}: {(error.strerror or str(error)).lower()}") from error
        except BaseException:
            self._abandon()
            raise

    def limit(self, most_bytes: int, keep_s: float) -> None:
        """Other bounds, which the next `prune` holds it to."""
        with self._lock:
            self._most_bytes, self._keep_ns = most_bytes, int(keep_s * 1e9)
            self._segment_bytes = max(min(SEGMENT_BYTES, most_bytes // 8), MIN_SEGMENT_BYTES)

    def reserve(self, count: int) -> range:
        """The next so many numbers. They are on the disk when it returns: none is ever given again, and one that comes
        to nothing is known to be lost. Waits for the disk. SpoolError: it does not take them."""
        with self._reserving:
            if self._closed:
                raise SpoolError(f"{self._folder.path} is closed")
            first = self._reserved + 1
            if count < 0 or self._reserved + count > MAX_SEQUENCE:
                raise ValueError(f"cannot reserve {count} numbers")
            if count:
                try:
                    self._numbers.put(self._reserved + count, 0)
                except OSError as error:
                    why = (error.strerror or str(error)).lower()
                    raise SpoolError(f"{self._folder.path / 'numbers'}: cannot be written: {why}") from error
            with self._lock:
                self._reserved += count
                self._pending.update(range(first, first + count))
            return range(first, first + count)

    def append(self, entry: Entry) -> bool:
        """Writes it at once, all of it or nothing. False: it is lost, and counted by the reason; or its number was not
        reserved, or is settled already. Waits for the disk only when a file ends. Never raises."""
        with self._lock:
            number = entry.sequence
            if self._closed or number not in self._pending:
                return False
            log_ns = self._clock.read()
            self._end_file(log_ns)
            if number not in self._pending:  # just forgotten
                return False
            reason = self._write_gaps(log_ns)
            self._pending.discard(number)
            try:
                content = shipment_content(entry, self._agent, Mark(self._settled(), log_ns))
                reason = reason or self._file.put(entry.summary, content, log_ns)
            except (ValueError, OverflowError, LookupError):
                reason = "unencodable"
            if reason:
                self._lose(number, number, reason)
                return False
            self._wrote(number, number, log_ns)
            self._facts[self._file.number].add_entry(wall_of(entry))
            self._written += 1
            return True

    def lose(self, first: int, last: int, reason: str) -> None:
        """These numbers get no summary. Those that are settled already stay as they are. Never raises."""
        with self._lock:
            if self._closed:
                return
            mine = sorted(n for n in self._pending if first <= n <= last)
            self._pending.difference_update(mine)
            for number in mine:
                self._lose(number, number, reason)
            self._write_gaps(self._clock.read())

    def prune(self) -> int:
        """Drops the oldest files beyond the caps, and says how many. Call it at least once an hour: files age by it."""
        with self._lock:
            if self._closed:
                return 0
            dropped = self._prune(log_ns := self._clock.read())
            self._write_gaps(log_ns)
            if self._totals_due:
                self._write_totals(log_ns)
            return dropped

    def state(self) -> SpoolState:
        with self._lock:
            facts = [self._known(number) for number in sorted(self._facts)[:1]]
            while facts and facts[-1].first is None and len(facts) < len(self._facts):
                facts.append(self._known(sorted(self._facts)[len(facts)]))
            return SpoolState(
                bytes=sum(f.bytes for f in self._facts.values()), files=len(self._facts),
                first_sequence=next((f.first for f in facts if f.first is not None), None),
                last_sequence=self._last if any(f.first is not None for f in facts) else None,
                oldest_wall_ns=next((f.start_wall_ns for f in facts if f.start_wall_ns is not None), None),
                lost=dict(self._lost), written=self._written, dropped=self._dropped)

    def close(self) -> None:
        """What was reserved and not appended is reported as lost by "crash" when the spool is opened again: `lose` it
        before."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            log_ns = self._clock.read()
            self._write_gaps(log_ns)
            self._file.end()
            self._write_totals(log_ns)
        with self._reserving:
            self._abandon()

    def _recover(self, clock: Callable[[], int]) -> None:
        folder, numbers = self._folder, self._folder.segments()
        if numbers and numbers[-1] >= LAST_FILE:
            raise SpoolError(f"{folder.path / segment_name(numbers[-1])}: there is no number after this one: remove it")
        totals = read_totals(folder)
        known = Totals() if totals is None else totals
        self._facts: dict[int, FileFacts] = {}
        self._unread: set[int] = set()  # files of earlier processes that only their size is known of
        recent: dict[int, list[Record]] = {}
        for number in numbers:
            size = folder.size(segment_name(number))
            if size is None:
                continue
            if totals is None or number >= totals.file:
                self._facts[number], recent[number] = file_facts(folder, number)
            elif number in totals.files:
                self._facts[number] = totals.files[number]
            else:
                self._facts[number] = FileFacts()
                self._unread.add(number)
            self._facts[number].bytes = size
        found = recover(known, recent)
        given = self._numbers.value
        self._reserved = max(given[0] if given else 0, found.last, highest_acknowledged(folder))
        if totals is None and found.last == 0:  # a new one, or one whose files were removed: nothing is known of those
            found.settled = self._reserved
        self._clock = LogClock(clock, found.log_ns, found.wall_ns)
        self._opened_ns = self._clock.read()
        self._totals_due = False
        self._lost, self._written, self._dropped = found.lost, found.written, known.dropped
        self._pending: set[int] = set()
        self._gaps: list[Gap] = []  # lost, and not written yet
        self._last = found.last
        self._file.number = max(numbers, default=0) + 1
        for first, last in missing(found.settled, self._reserved, found.beyond):
            self._lose(first, last, "crash")
        if given is None or given[0] < self._reserved:
            self._numbers.put(self._reserved, 0)
        self._write_gaps(self._opened_ns)
        self._prune(self._opened_ns)
        self._write_totals(self._opened_ns)  # without them, a log with no file is one whose files were removed

    def _settled(self) -> int:
        """All numbers up to this one are in the log, or will be with what is written next."""
        open_ = [*self._pending, *(gap.first for gap in self._gaps)]
        return min(open_) - 1 if open_ else self._reserved

    def _lose(self, first: int, last: int, reason: str) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + last - first + 1
        for i, gap in enumerate(self._gaps):
            if gap.last + 1 == first and (gap.reason == reason or len(self._gaps) >= MOST_GAPS):
                self._gaps[i] = Gap(gap.first, last, gap.reason)
                return
        self._gaps.append(Gap(first, last, reason))

    def _write_gaps(self, log_ns: int) -> str:
        """Those that are not in the log yet. The reason why they cannot be written, or ''."""
        self._gaps.sort(key=lambda gap: gap.first)
        while self._gaps:
            gap = self._gaps.pop(0)
            reason = self._file.put_gap(gap_content(gap, self._agent, Mark(self._settled(), log_ns)), log_ns)
            if reason:
                self._gaps.insert(0, gap)
                return reason
            self._wrote(gap.first, gap.last, log_ns)
        return ""

    def _wrote(self, first: int, last: int, log_ns: int) -> None:
        facts = self._facts.setdefault(self._file.number, FileFacts())
        facts.bytes = self._file.size
        facts.add(first, last, log_ns)
        self._last = max(self._last, last)

    def _end_file(self, log_ns: int) -> None:
        """When it is full. A file has all numbers from its first to its last: one that nobody settled while a whole
        file was written is forgotten."""
        full = self._file.size >= self._segment_bytes
        if not self._file.open or not (full or log_ns - self._file.began_ns >= SEGMENT_NS):
            return
        if self._settled() < self._last:
            if self._file.size < 2 * self._segment_bytes and not log_ns - self._file.began_ns >= 2 * SEGMENT_NS:
                return
            forgotten = sorted(number for number in self._pending if number < self._last)
            self._pending.difference_update(forgotten)
            for number in forgotten:
                self._lose(number, number, "forgotten")
            if self._write_gaps(log_ns):
                return
        self._file.end()
        self._prune(log_ns)
        self._write_totals(log_ns)

    def _prune(self, log_ns: int) -> int:
        dropped = 0
        total = sum(facts.bytes for facts in self._facts.values())
        for number in sorted(self._facts):
            if number == self._file.number and self._file.open:
                break
            too_many = total > self._most_bytes or len(self._facts) > MOST_FILES
            facts = self._known(number)
            last_ns = self._opened_ns if facts.log_ns is None else facts.log_ns
            if not too_many and log_ns - last_ns <= self._keep_ns:
                break
            try:
                self._folder.remove(segment_name(number))
            except FileNotFoundError:
                pass
            except OSError:
                break
            total -= facts.bytes
            self._dropped += facts.entries
            del self._facts[number]
            dropped += 1
        if dropped:
            self._write_totals(log_ns)
        return dropped

    def _known(self, number: int) -> FileFacts:
        if number in self._unread:
            self._unread.discard(number)
            size = self._facts[number].bytes
            self._facts[number] = file_facts(self._folder, number)[0]
            self._facts[number].bytes = size
        return self._facts[number]

    def _write_totals(self, log_ns: int) -> None:
        """At a moment when the log has all numbers up to its last. Else, and on a full disk, the next time."""
        self._totals_due = True
        if self._gaps or self._settled() < self._last:
            return
        try:
            write_totals(self._folder, Totals(
                settled=self._settled(), file=self._file.number, written=self._written, dropped=self._dropped,
                lost=self._lost, log_ns=log_ns, wall_ns=self._clock.wall_ns, files=self._ended()))
        except OSError:
            return
        self._totals_due = False

    def _ended(self) -> dict[int, FileFacts]:
        return {number: facts for number, facts in self._facts.items()
                if number not in self._unread and not (number == self._file.number and self._file.open)}

    def _abandon(self) -> None:
        self._file.abandon()
        for name in ("_numbers_fd", "_lock_fd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)
        self._closed = True
        self._folder.close()


def _take_lock(folder: Folder) -> int:
    """Held until it is closed, by the kernel when we are killed."""
    fd = folder.open_own("lock")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise SpoolError(f"{folder.path} is written by another agent (pid {owner or 'unknown'}): stop it, or name "
                         "another folder") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd
