"""Processes that have ended, so that a long watch of short-lived ones does not grow: the oldest are put together.

One stands for all that had its parent, its name and its Python; threads of one name are put together too. Sums stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from excise.frames import Process, Thread
from excise.ledger.definitions import Known
from excise.ledger.threads import Key

MOST_ENDED: Final = 512
"""Kept apart, and half of them when there are more: 1 kB each, with their threads."""


@dataclass(slots=True)
class Ended:
    """`stands_for`: pid -> how many more processes are counted as this one."""

    most: int = MOST_ENDED
    stands_for: dict[int, int] = field(default_factory=dict)
    _order: dict[int, None] = field(default_factory=dict)  # pids, in the order of their end
    _like: dict[tuple[int, str, str | None], int] = field(default_factory=dict)

    def note(self, known: Known, present: Iterable[int]) -> None:
        """`present`: the pids that had a thread in the window that has just ended."""
        alive = set(present)
        for pid in known.processes:
            if pid in alive:
                self._order.pop(pid, None)
            elif pid not in self._order and pid not in self.stands_for:
                self._order[pid] = None

    def fold(self, known: Known) -> dict[Key, Key]:
        """Whose sums are to be whose now: empty while there are few. Takes the processes out of `known`."""
        if len(self._order) <= self.most:
            return {}
        going = list(self._order)[: len(self._order) - self.most // 2]
        threads: dict[int, list[Thread]] = {}
        for thread in known.threads.values():
            threads.setdefault(thread.pid, []).append(thread)
        moves: dict[Key, Key] = {}
        for pid in going:
            del self._order[pid]
            process = known.processes[pid]
            like = self._like.setdefault(_kind(process), pid)
            if like == pid:
                self.stands_for.setdefault(pid, 0)
                continue
            self.stands_for[like] = self.stands_for.get(like, 0) + 1
            moves |= _join(known, process, threads.get(pid, []), like, threads.setdefault(like, []))
        return moves


def _kind(process: Process) -> tuple[int, str, str | None]:
    return process.parent, process.comm, process.python


def _join(
    known: Known, process: Process, threads: list[Thread], like: int, others: list[Thread]
) -> dict[Key, Key]:
    moves: dict[Key, Key] = {}
    del known.processes[process.pid]
    for thread in threads:
        known.threads.pop(thread.tid, None)
        if thread.tid == process.pid:
            tid = like
        else:
            tid = next((o.tid for o in others if o.name == thread.name and o.tid != like), thread.tid)
        moves[process.pid, thread.tid] = (like, tid)
        before = next((o for o in others if o.tid == tid), None)
        if before is None:
            joined = Thread(tid, like, thread.name, thread.carrier, thread.library)
            others.append(joined)
        else:
            joined = Thread(tid, like, before.name, before.carrier or thread.carrier, before.library or thread.library)
            others[others.index(before)] = joined
        known.threads[tid] = joined
    moves.setdefault((process.pid, process.pid), (like, like))
    return moves
