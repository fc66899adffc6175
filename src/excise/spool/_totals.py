"""What is known of a log beyond its files: counts since the beginning, through a certain number."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from excise.spool._facts import FileFacts, facts_of
from excise.spool._folder import Folder

_NAME: Final = "totals.json"
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all numbers up to `settled`; what came after stands in files from number `file` on."""

    settled: int = 0
    file: int = 1
    written: int = 0  # entries
    dropped: int = 0  # of these, entries of files that were dropped
    lost: Mapping[str, int] = field(default_factory=dict)  # windows, by reason
    log_ns: int = 0  # the log's clock
    wall_ns: int = 0  # when that was
    files: Mapping[int, FileFacts] = field(default_factory=dict)  # those that are ended, as far as they are known


def read_totals(folder: Folder) -> Totals | None:
    """None: there are none, or they are damaged."""
    fd = folder.open_plain(_NAME)
    if fd is None:
        return None
    try:
        content: Any = json.loads(os.pread(fd, _MOST_BYTES, 0))
        lost = content.pop("lost")
        files = {int(number): facts_of(row) for number, row in content.pop("files").items()}
        totals = Totals(**content, lost=lost, files=files)
        numbers = [*content.values(), *lost.values()]
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    finally:
        os.close(fd)
    return totals if all(type(n) is int and 0 <= n < 1 << 63 for n in numbers) else None


def write_totals(folder: Folder, totals: Totals) -> None:
    """Raises OSError."""
    content = {name: getattr(totals, name) for name in Totals.__slots__}
    content |= {"lost": dict(totals.lost), "files": {number: facts.row() for number, facts in totals.files.items()}}
    folder.replace(_NAME, json.dumps(content).encode() + b"\n")
