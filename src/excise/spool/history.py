"""The spool read as history: by workload and time, while the agent writes it, or a copy of it, without a lock."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from excise.spool._folder import Folder
from excise.spool._log import LogReader, Record, Sealed
from excise.spool.entry import Entry, Gap
from excise.spool.errors import SpoolError
from excise.workload import Workload


@dataclass(frozen=True, slots=True)
class WorkloadHistory:
    workload: Workload
    windows: int
    first_wall_ns: int | None  # start of the first; None: no window says
    last_wall_ns: int | None  # end of the last


def history_workloads(folder: Path) -> list[WorkloadHistory]:
    """Of every workload that the spool has summaries of, by name. SpoolError: there is no such folder."""
    return survey(folder)[0]


def survey(folder: Path) -> tuple[list[WorkloadHistory], list[Gap]]:
    """Every workload that the spool has summaries of, by name, and what the log says is lost, in its order; what was
    dropped with a whole file is not among it. SpoolError: there is no such folder."""
    found: dict[Workload, tuple[int, list[int]]] = {}
    gaps: list[Gap] = []
    for record in _records(folder):
        if isinstance(record.item, Gap):
            gaps.append(record.item)
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
    name; a `Workload` is that one exactly.

    SpoolError at once: there is no such folder, or no such workload in it.
    """
    wanted = workload
    if isinstance(workload, str):
        wanted = find_workload({w.workload.name for w in history_workloads(folder)}, workload, folder)
    Folder(folder, own=False).close()
    return _entries(folder, wanted, since_ns, until_ns)


def find_workload(names: Collection[str], wanted: str, folder: Path) -> str:
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
        raise SpoolError(f"{folder} has no summaries yet")
    raise SpoolError(f"{folder} has no workload {wanted!r}; it has {_listed(sorted(names))}")


def _entries(
    folder: Path, wanted: Workload | str | None, since_ns: int | None, until_ns: int | None
) -> Iterator[Entry]:
    for sealed in _sealed(folder):
        workload = sealed.shipment.workload
        if wanted is not None and wanted not in (workload, workload.name):
            continue
        wall_ns = sealed.shipment.wall_ns
        if (since_ns is not None or until_ns is not None) and wall_ns is None:
            continue
        if wall_ns and ((since_ns is not None and wall_ns[1] <= since_ns)
                        or (until_ns is not None and wall_ns[0] >= until_ns)):
            continue
        entry = sealed.open()
        if entry is not None:
            yield entry


def _sealed(path: Path) -> Iterator[Sealed]:
    return (record.item for record in _records(path) if isinstance(record.item, Sealed))


def _records(path: Path) -> Iterator[Record]:
    folder = Folder(path, own=False)
    log = LogReader(folder)
    try:
        while (record := log.read()) is not None:
            yield record
    finally:
        log.close()
        folder.close()


def _listed(names: list[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
