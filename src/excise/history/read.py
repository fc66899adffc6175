"""An agent's history, read: which workloads it has, and one of them over a range of time as a report."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from excise.history.coverage import coverage
from excise.history.fold import Fold
from excise.history.report import report_of
from excise.history.when import Range
from excise.printable import printable
from excise.report import Report
from excise.spool import Entry, Gap, SpoolError, WorkloadHistory, read_history, survey
from excise.spool.history import find_workload
from excise.summary import Summary

DEFAULT_FOLDER: Final = Path("/var/lib/excise/spool")

Problem = Literal["unreadable", "not permitted", "unclear", "not there"]

REASONS: Final = {
    "crash": "the agent was killed",
    "disk_full": "the disk was full",
    "io_error": "the disk failed",
    "forgotten": "the agent lost track of it",
    "full": "dropped: the history was full",
    "aged": "dropped: too old",
    "damaged": "damaged on the disk",
}
"""Of gaps, in words; any other says itself."""


class HistoryError(Exception):
    """A history that cannot be shown. The text is a sentence for the user, with the way out; it may hold names that
    processes gave themselves, and is fit to print."""

    def __init__(self, problem: Problem, sentence: str) -> None:
        super().__init__(printable(sentence))
        self.problem: Problem = problem


def kept_in(folder: Path) -> tuple[list[WorkloadHistory], list[Gap]]:
    """Every workload that has windows, by name, and what was lost of any. HistoryError: there is no history, or it may
    not be read."""
    try:
        _ = next(folder.iterdir(), None)
    except PermissionError:
        raise HistoryError(
            "not permitted", f"{folder} may be read by root and the agent only: run it with sudo") from None
    except FileNotFoundError:
        raise HistoryError(
            "unreadable", f"there is no history in {folder}: is the agent installed and running? "
            "(systemctl status excise) --history names another folder") from None
    except OSError as error:
        raise HistoryError("unreadable", f"{folder}: {(error.strerror or str(error)).lower()}") from None
    try:
        return survey(folder)
    except SpoolError as error:
        raise HistoryError("unreadable", str(error)) from error


def history_report(folder: Path, name: str | None, asked: Range) -> Report:
    """The report of a workload over a range. `name`: it may be left out where there is one only, cut short where that
    is clear. HistoryError."""
    kept, gaps = kept_in(folder)
    chosen = _choose(kept, name, folder)
    taken, fold = _Taken(asked), Fold()
    try:
        for entry in read_history(folder, chosen.workload, asked.since_ns, asked.until_ns):
            if taken.take(entry):
                fold.add(entry.summary)
    except SpoolError as error:
        raise HistoryError("unreadable", str(error)) from error
    if not taken.windows:
        raise HistoryError("not there", _nothing_in(chosen, asked))
    summary = fold.result()
    reasons = Reasons(taken.windows, gaps, chosen)
    found = coverage(summary, chosen.workload, asked.since_ns, asked.until_ns, fold.longest_ns * 3 // 2, reasons)
    return report_of(summary, chosen.workload, found)


def summaries_report(summaries: Iterable[Summary]) -> Report:
    """The report of all of them together."""
    fold = Fold()
    for summary in summaries:
        fold.add(summary)
    return report_of(fold.result())


def _choose(kept: list[WorkloadHistory], name: str | None, folder: Path) -> WorkloadHistory:
    if not kept:
        raise HistoryError(
            "not there", f"the history in {folder} has no window yet: the agent writes each as it ends, once it "
            "watches something (systemctl status excise)")
    names = sorted({k.workload.name for k in kept})
    if name is None and len(names) > 1:
        raise HistoryError("unclear", f"the history has several workloads: name one by --workload, of "
                                      f"{', '.join(names)}")
    try:
        exact = names[0] if name is None else find_workload(names, name, folder)
    except SpoolError as error:
        unclear = any(n.startswith(name or "") for n in names)
        raise HistoryError("unclear" if unclear else "not there", str(error)) from error
    return max((k for k in kept if k.workload.name == exact), key=lambda k: k.last_wall_ns or 0)


def _nothing_in(chosen: WorkloadHistory, asked: Range) -> str:
    from excise.exporters._history import range_words

    name, first, last = chosen.workload.name, chosen.first_wall_ns, chosen.last_wall_ns
    if first is None or last is None:
        return f"no window of {name} says when it was"
    wanted = range_words(first if asked.since_ns is None else asked.since_ns, asked.until_ns or last)
    return f"nothing of {name} was watched in {wanted}: its history goes from {range_words(first, last)}"


@dataclass(frozen=True, slots=True)
class Taken:
    """A window that is in the report."""

    start_ns: int
    end_ns: int
    sequence: int
    boot_id: str


class _Taken:
    """Takes the windows that lie in the range by more than a half, so that it is not longer than was asked for."""

    def __init__(self, asked: Range) -> None:
        self._asked = asked
        self._sequences: set[int] = set()
        self.windows: list[Taken] = []

    def take(self, entry: Entry) -> bool:
        spans = [span for mine in entry.summary.spans.values() for span in mine]
        if not spans or entry.sequence in self._sequences:
            return False
        start, end = min(s.start_wall_ns for s in spans), max(s.end_wall_ns for s in spans)
        middle = (start + end) // 2
        since, until = self._asked.since_ns, self._asked.until_ns
        if (since is not None and middle < since) or (until is not None and middle >= until):
            return False
        self._sequences.add(entry.sequence)
        boot = next(iter(entry.summary.sources.values())).boot_id if entry.summary.sources else ""
        self.windows.append(Taken(start, end, entry.sequence, boot))
        return True


class Reasons:
    """Why nothing is known of a stretch of time, as far as the history says: by the windows on both sides of it."""

    def __init__(self, windows: Iterable[Taken], gaps: Iterable[Gap], whole: WorkloadHistory) -> None:
        self._windows = sorted(windows, key=lambda w: (w.start_ns, w.sequence))
        self._starts = [w.start_ns for w in self._windows]
        self._gaps = sorted(gaps, key=lambda gap: gap.first)
        self._firsts = [gap.first for gap in self._gaps]
        self._first_ns, self._last_ns = whole.first_wall_ns, whole.last_wall_ns

    def __call__(self, start_ns: int, end_ns: int) -> str | None:
        at = bisect_left(self._starts, end_ns)
        before, after = self._windows[:at][-1:], self._windows[at:at + 1]
        if not before:
            return "before its history begins" if self._first_ns is not None and end_ns <= self._first_ns else None
        if not after:
            return "after its history ends" if self._last_ns is not None and start_ns >= self._last_ns else None
        lost = self._gaps[bisect_left(self._firsts, before[0].sequence):bisect_left(self._firsts, after[0].sequence)]
        if lost:
            most = max(lost, key=lambda gap: gap.windows)
            return REASONS.get(most.reason, most.reason)
        return "the host was started again" if before[0].boot_id != after[0].boot_id else None
