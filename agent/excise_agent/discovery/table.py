"""The processes of the host, and which of them have come, changed or gone since the last look.

What it costs with warm caches, and with the cold ones of a process that slept for a second, on the virtual machine of
docs/discovery.md: a listing of 440 entries 150 and 600 us, a read of a held statm 1.1 and 2.2 us, of one that has to be
opened 5 us, a stat 8.5 us. So statm is held open for each process, and /proc is listed only when the kernel has given
many pids since; a few are tried one by one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from excise_agent.discovery.changes import Identity
from excise_agent.discovery.libraries import MapsScan
from excise_agent.discovery.place import Place
from excise_agent.host import PAGE_BYTES, ProcessStat, read_stat, read_status_field

ENROL: Final = 256  # new processes a look; others wait for the next ones. One costs 50 us, more when its maps are large
UNHELD: Final = 256  # of those that found no descriptor, a look
LISTINGS: Final = 8  # looks after which /proc is listed in any case: a counter that went round shows nothing
TRIED: Final = 32  # pids that are tried before a listing is cheaper; one costs 3 us, 20 if it is there
MOST_HELD: Final = 4096  # descriptors; a held statm is 5 kB of the kernel's memory
_PF_KTHREAD: Final = 0x0020_0000


@dataclass(slots=True, eq=False)
class Known:
    """A process that is not the kernel's."""

    pid: int
    start_ns: int
    parent: int
    group: int
    fd: int  # of its statm, which stays that process's: no later one with its pid is taken for it. -1: not held
    size_bytes: int  # of its address space; 0: it has ended, or its leader has
    raw: bytes = b""
    # -- what was made of it
    place: Place | None = None  # None: not read yet
    rule: int | None = None
    ignored: bool = False
    why: str = ""  # it matched; "": it has not
    scan: MapsScan | None = None  # under way
    peak_bytes: int = 0  # the largest address space that was searched
    maps_bytes: int = 0  # how long its maps were
    next_read: float = 0.0  # its maps; monotonic seconds
    unreadable: bool = False

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start_ns)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        if self.scan is not None:
            self.scan.close()
            self.scan = None


@dataclass(slots=True)
class Round:
    new: list[Known] = field(default_factory=list)
    changed: list[Known] = field(default_factory=list)  # their address space has another size
    gone: list[Known] = field(default_factory=list)


class Table:
    """Owns the descriptors. `by_pid` is to be read only."""

    def __init__(self, proc: Path, most_held: int | None = None) -> None:
        self._proc = proc
        self._most_held = room_for_descriptors() if most_held is None else most_held
        self.by_pid: dict[int, Known] = {}
        self._held: dict[int, Known] = {}
        self._unheld: deque[Known] = deque()
        self._names: set[str] = set()  # all that were listed, the kernel's threads too
        self._waiting: deque[str] = deque()  # listed and not yet enrolled
        self._round: deque[Known] = deque()
        self._counters = (-1, -1)  # the last pid that the kernel had given at the look before the last, and at the last
        self._unlisted = 0
        self._loadavg = -1
        with contextlib.suppress(OSError):
            self._loadavg = os.open(f"{proc}/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def waiting(self) -> int:
        """Processes that are to be looked at in the next rounds."""
        return len(self._waiting)

    def look(self) -> Round:
        found = Round()
        self._check_held(found)
        self._check_unheld(found)
        for known in found.gone:  # first, so that a new process with its pid is seen as one
            self._remove(known)
        first, last = self._new_pids()
        if first < 0:
            self._list(found)
        else:
            self._waiting.extend(str(pid) for pid in range(first, last) if self._is_new(pid))
        self._enrol(found)
        return found

    def next_in_turn(self) -> Known | None:
        """One after the other, for what no change of size gives away."""
        while self._round:
            known = self._round.popleft()
            if self.by_pid.get(known.pid) is known:
                self._round.append(known)
                return known
        return None

    def refresh(self, known: Known) -> ProcessStat | None:
        """Reads its parent and process group again. None: gone, or another process has its pid."""
        stat = read_stat(known.pid, self._proc)
        if stat is None or stat.start_ns != known.start_ns:
            return None
        known.parent, known.group = stat.parent, stat.group
        return stat

    def has_ended(self, known: Known) -> bool:
        """Whether nothing of it runs: its leader and all of its threads have ended."""
        stat = self.refresh(known)
        return stat is None or (stat.state in "ZX" and stat.threads <= 1)

    def close(self) -> None:
        for known in self.by_pid.values():
            known.close()
        self.by_pid.clear()
        self._held.clear()
        self._unheld.clear()
        fd, self._loadavg = self._loadavg, -1
        if fd >= 0:
            os.close(fd)

    # -- steps

    def _check_held(self, found: Round) -> None:
        pread = os.pread
        for known in self._held.values():
            try:
                raw = pread(known.fd, 24, 0)
            except OSError as err:
                if err.errno == errno.ESRCH:
                    found.gone.append(known)
                continue
            if raw != known.raw:
                self._compare(known, raw, found)

    def _compare(self, known: Known, raw: bytes, found: Round) -> None:
        known.raw = raw
        size = _size_of(raw)
        if size != known.size_bytes:
            known.size_bytes = size
            found.changed.append(known)

    def _check_unheld(self, found: Round) -> None:
        for _ in range(min(UNHELD, len(self._unheld))):
            known = self._unheld.popleft()
            if self.by_pid.get(known.pid) is not known or known.fd >= 0:
                continue
            stat = self.refresh(known)
            if stat is None:
                found.gone.append(known)
                continue
            if stat.size_bytes != known.size_bytes:
                known.size_bytes = stat.size_bytes
                found.changed.append(known)
            self._unheld.append(known)

    def _new_pids(self) -> tuple[int, int]:
        """[first, last) of the pids that may be new; (-1, -1): not known, or too many to try.

        The last one that the kernel gave stands in loadavg; threads have pids too. Those of the look before are tried
        again: a process has its number some time before it can be seen.
        """
        counter = -1
        if self._loadavg >= 0:
            with contextlib.suppress(OSError, ValueError):
                counter = int(os.pread(self._loadavg, 128, 0).rpartition(b" ")[2])
        oldest = self._counters[0]
        self._counters = (self._counters[1], counter)
        self._unlisted += 1
        if counter < 0 or not 0 <= oldest <= counter <= oldest + TRIED or self._unlisted >= LISTINGS:
            self._unlisted = 0
            return -1, -1
        return oldest + 1, counter + 1

    def _is_new(self, pid: int) -> bool:
        """Whether it is a process, and not a thread of one, that was not seen before."""
        name = str(pid)
        if name in self._names or read_status_field(pid, "Tgid", self._proc) != name:
            return False
        self._names.add(name)
        return True

    def _list(self, found: Round) -> None:
        names = {name for name in os.listdir(self._proc) if name.isdigit()}  # noqa: PTH208
        for name in self._names - names:
            known = self.by_pid.get(int(name))
            if known is not None:
                self._remove(known)
                found.gone.append(known)
        self._waiting.extend(sorted(names - self._names, key=int))
        self._names = names

    def _enrol(self, found: Round) -> None:
        most = ENROL
        while self._waiting and most > 0:
            name = self._waiting.popleft()
            if name not in self._names:  # it has gone while it waited: it costs nothing
                continue
            most -= 1
            known = self._open(int(name))
            if known is not None:
                self.by_pid[known.pid] = known
                if known.fd >= 0:
                    self._held[known.pid] = known
                else:
                    self._unheld.append(known)
                self._round.append(known)
                found.new.append(known)

    def _open(self, pid: int) -> Known | None:
        """None: the kernel's, or gone."""
        fd = -1
        if len(self._held) < self._most_held:
            with contextlib.suppress(OSError):
                fd = os.open(f"{self._proc}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        stat = read_stat(pid, self._proc)
        raw = b""
        if fd >= 0:
            with contextlib.suppress(OSError):
                raw = os.pread(fd, 24, 0)  # after stat: both are of the process that the descriptor is for
        if stat is None or stat.flags & _PF_KTHREAD or (fd >= 0 and not raw):
            if fd >= 0:
                os.close(fd)
            if stat is None or not stat.flags & _PF_KTHREAD:
                self._names.discard(str(pid))
            return None
        size = _size_of(raw) if fd >= 0 else stat.size_bytes
        return Known(pid, stat.start_ns, stat.parent, stat.group, fd, size, raw)

    def _remove(self, known: Known) -> None:
        known.close()
        if self.by_pid.get(known.pid) is known:
            del self.by_pid[known.pid]
            self._held.pop(known.pid, None)
            self._names.discard(str(known.pid))
            if len(self._round) > 2 * len(self.by_pid) + ENROL:  # else one that has gone stays until its turn comes
                self._round = deque(k for k in self._round if self.by_pid.get(k.pid) is k)


def room_for_descriptors() -> int:
    """Half of what this process may open at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_HELD if soft == resource.RLIM_INFINITY else min(MOST_HELD, soft // 2)


def _size_of(raw: bytes) -> int:
    """Bytes, of the first field of statm."""
    pages = raw.partition(b" ")[0]
    return int(pages) * PAGE_BYTES if pages.isdigit() else 0
