"""What a history has: its workloads, from when to when, and how much room it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from excise.exporters._history import moment, workload_name
from excise.exporters._units import NOT_MEASURED, plural, size
from excise.history.read import REASONS, HistoryError, kept_in
from excise.spool import Gap, WorkloadHistory

SCHEMA: Final = "excise.history/1"


@dataclass(frozen=True, slots=True)
class Listing:
    folder: Path
    bytes: int  # of all its files
    workloads: tuple[WorkloadHistory, ...]  # the one that was watched last comes first
    gaps: tuple[Gap, ...]  # windows that were lost, of any workload


def read_listing(folder: Path) -> Listing:
    """HistoryError."""
    workloads, gaps = kept_in(folder)
    workloads.sort(key=lambda w: (-(w.last_wall_ns or 0), w.workload))
    try:
        size_bytes = sum(file.lstat().st_size for file in folder.iterdir())
    except OSError as error:  # a file that went away, at worst
        raise HistoryError("unreadable", f"{folder}: {(error.strerror or str(error)).lower()}: try again") from error
    return Listing(folder, size_bytes, tuple(workloads), tuple(gaps))


def listing_json(listing: Listing) -> dict[str, Any]:
    """Times in ns since 1970; null is not known."""
    return {
        "schema": SCHEMA,
        "folder": str(listing.folder),
        "bytes": listing.bytes,
        "workloads": [
            {"name": w.workload.name, "kind": w.workload.kind, "windows": w.windows, "first_wall_ns": w.first_wall_ns,
             "last_wall_ns": w.last_wall_ns}
            for w in listing.workloads],
        "lost_windows": _lost(listing),
    }


def print_listing(listing: Listing, console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left", "left"):
        table.add_column(justify=justify, overflow="fold")
    table.add_row(*(Text(name, "dim") for name in ("workload", "windows", "from", "to")))
    for w in listing.workloads:
        first, last = (NOT_MEASURED if ns is None else moment(ns) for ns in (w.first_wall_ns, w.last_wall_ns))
        table.add_row(Text(workload_name(w.workload), "bold"), Text(f"{w.windows:,}"), Text(first), Text(last))
    console.print(table if listing.workloads else Text("no window yet"))
    console.print()
    console.print(Text(f"{size(listing.bytes)} in {listing.folder}"))
    for reason, count in _lost(listing).items():
        console.print(Text(f"lost: {plural(count, 'window')} ({REASONS.get(reason, reason)})"))


def _lost(listing: Listing) -> dict[str, int]:
    out: dict[str, int] = {}
    for gap in listing.gaps:
        out[gap.reason] = out.get(gap.reason, 0) + gap.windows
    return out
