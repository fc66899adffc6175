"""The spool read as history: by workload and time, while the agent writes it, or a copy of it, without a lock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from excise.spool._folder import Folder
from excise.spool._log import LogReader, Record, Sealed
from excise.spool._totals import read_totals
from excise.spool.entry import Entry, Gap
from excise.spool.errors import SpoolError
from excise.workload import Workload


@dataclass(frozen=True, slots=True)
class WorkloadHistory:
    workload: Workload
    windows: int
    first_wall_ns: int | None  # start of the first; None: no window says
    last_wall_ns: int | None  # end of the last


def history_workloads(folder: Path, since_ns: int | None = None, until_ns: int | None = None) -> list[WorkloadHistory]:
    """Of every workload that the spool has summaries of, in [since_ns, until_ns), by name. SpoolError: there is no
    such folder."""
    return survey(folder, since_ns, until_ns)[0]


def survey(
    folder: Path, since_ns: int | None = None, until_ns: int | None = None
) -> tuple[list[WorkloadHistory], list[Gap]]:
    """The same, and what the log says is lost, in its order; what was dropped with a whole file is not among it."""
    found: dict[Workload, tuple[int, list[int]]] = {}
    gaps: list[Gap] = []
    for record in _records(folder, since_ns, until_ns):
        if isinstance(record.item, Gap):
            gaps.append(record.item)
            continue
        if not _within(record.item.shipment.wall_ns, since_ns, until_ns):
            continue
        workload = record.item.shipment.workload
        windows, times = found.get(workload, (0, []))
        times = [*times, *(record.item.shipment.wall_ns or ())]
        found[workload] = windows + 1, [min(times), max(times)] if times else []
    return [WorkloadHistory(workload, windows, min(times, default=None), max(times, default=None))
            for workload, (windows, times) in sorted(found.items())], gaps


def read_history(folder: Path, workload: Workload | str | None = None, since_ns: int | None = None,
                 until_ns: int | None = None) -> Iterator[Entry]:
    """Entries in the order of the log, those whose time and [since_ns, until_ns) (wall, ns since 1970) have a part in
    common; damaged ones are left out. `workload`: a name, one without its ".service", or the beginning of just one
    name, of those that have entries of this time; a `Workload` is that one exactly.

    SpoolError at once: there is no such folder, or no such workload in it.
    """
    wanted = workload
    if isinstance(workload, str):
        names = {known.workload.name for known in history_workloads(folder, since_ns, until_ns)}
        wanted = find_workload(names, workload, folder, timed=since_ns is not None or until_ns is not None)
    Folder(folder, own=False).close()
    return _entries(folder, wanted, since_ns, until_ns)


def find_workload(names: Collection[str], wanted: str, folder: Path, *, timed: bool = False) -> str:
    """SpoolError, which lists the names, where none or more than one is meant."""
    for exact in (wanted, f"{wanted}.service"):
        if exact in names:
            return exact
    begin = sorted(name for name in names if wanted and name.startswith(wanted))
    if len(begin) == 1:
        return begin[0]
    if begin:
        raise SpoolError(f"{wanted!r} may be any of {_listed(begin)}: give the whole name")
    if not names:
        raise SpoolError(f"{folder} has no summaries {'in that time' if timed else 'yet'}")
    nothing = f"nothing of {wanted!r} in that time" if timed else f"no workload {wanted!r}"
    raise SpoolError(f"{folder} has {nothing}; it has {_listed(sorted(names))}")


def _entries(
    folder: Path, wanted: Workload | str | None, since_ns: int | None, until_ns: int | None
) -> Iterator[Entry]:
    for record in _records(folder, since_ns, until_ns):
        sealed = record.item
        if not isinstance(sealed, Sealed) or not _within(sealed.shipment.wall_ns, since_ns, until_ns):
            continue
        workload = sealed.shipment.workload
        if wanted in (None, workload, workload.name) and (entry := sealed.open()) is not None:
            yield entry


def _records(path: Path, since_ns: int | None, until_ns: int | None) -> Iterator[Record]:
    """Files that are known to have none of that time are not opened."""
    folder = Folder(path, own=False)
    totals = read_totals(folder)
    skip = {number for number, facts in (totals.files if totals else {}).items() if facts.outside(since_ns, until_ns)}
    log = LogReader(folder, skip=skip)
    try:
        while (record := log.read()) is not None:
            yield record
    finally:
        log.close()
        folder.close()


def _within(wall_ns: tuple[int, int] | None, since_ns: int | None, until_ns: int | None) -> bool:
    if wall_ns is None:
        return since_ns is None and until_ns is None
    return (since_ns is None or wall_ns[1] > since_ns) and (until_ns is None or wall_ns[0] < until_ns)


def _listed(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
