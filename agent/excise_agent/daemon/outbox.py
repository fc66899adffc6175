"""Where the summary of a window goes when it ends; and the numbers that windows under way have already."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from excise.spool import Entry, Spool, SpoolError
from excise.summary import Summary, fit
from excise.workload import Workload

SUMMARY_BYTES: Final = 4096  # of a window and process, with its stacks, compressed
UNUSED: Final = "unused"
"""Why a number has no summary though no window was lost: it was kept ready for one when the agent was stopped."""

UNACCOUNTABLE: Final = "unaccountable"  # what came of a window contradicted itself

_log = logging.getLogger(__name__)


class Outbox:
    """Each window under way has a number on disk: what a crash takes with it is known by the numbers that lack."""

    def __init__(self, spool: Spool) -> None:
        self.unnumbered = 0  # windows that got no number, because the disk did not take it: not in the spool
        self.written = 0
        self._spool = spool
        self._free: deque[int] = deque()

    def expect(self, windows: int) -> None:
        """So many windows are under way."""
        lacking = windows - len(self._free)
        if lacking <= 0:
            return
        try:
            self._free.extend(self._spool.reserve(lacking))
        except SpoolError as error:
            _log.error("%s", error)

    def put(self, workload: Workload, summary: Summary) -> None:
        """One of them has ended. What the spool cannot write it counts."""
        self.expect(1)
        if not self._free:
            self.unnumbered += 1
            return
        number = self._free.popleft()
        summary = fit(summary, SUMMARY_BYTES * max(len(summary.processes), 1))
        self.written += self._spool.append(Entry(number, workload, summary))

    def spoil(self) -> None:
        """One of them could not be summed up."""
        self.expect(1)
        if self._free:
            number = self._free.popleft()
            self._spool.lose(number, number, UNACCOUNTABLE)
        else:
            self.unnumbered += 1

    def close(self) -> None:
        """No window is under way any more."""
        for number in self._free:
            self._spool.lose(number, number, UNUSED)
        self._free.clear()
