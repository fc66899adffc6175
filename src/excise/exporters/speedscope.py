"""speedscope's file format: one sampled profile a thread, weights in nanoseconds.

A report keeps sums, not moments: the samples are ordered by stage and weight, never by time. "Left heavy" is
the view to choose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from excise.exporters._facts import target_name
from excise.exporters._labels import frame_name, missing_stack_label, wait_label
from excise.frames import Frame
from excise.names import STAGE_ID
from excise.printable import printable
from excise.report import Report, StackRow

SCHEMA_URL = "https://www.speedscope.app/file-format-schema.json"


class _Frames:
    """speedscope's shared frame table: equal frames once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._ids: dict[tuple[str, str, int], int] = {}

    def id_of(self, name: str, file: str = "", line: int = 0) -> int:
        key = (name, file, line)
        if key not in self._ids:
            self._ids[key] = len(self.rows)
            row: dict[str, Any] = {"name": name}
            if file:
                row["file"] = file
            if line:
                row["line"] = line
            self.rows.append(row)
        return self._ids[key]

    def of_frame(self, frame: Frame) -> int:
        return self.id_of(frame_name(frame), printable(frame.file), frame.line)


def encode_speedscope(report: Report) -> str:
    """JSON text. The stage is the root frame, the wait the leaf; helpers are profiles of their own."""
    frames = _Frames()
    by_thread: defaultdict[tuple[bool, int, str], list[StackRow]] = defaultdict(list)
    for row in report.stacks:
        if row.ns > 0:
            by_thread[not row.carrier, row.pid, row.thread].append(row)
    profiles = [_profile(key, rows, frames) for key, rows in sorted(by_thread.items())]
    document = {
        "$schema": SCHEMA_URL,
        "name": target_name(report),
        "exporter": "excise",
        "activeProfileIndex": 0,
        "shared": {"frames": frames.rows},
        "profiles": profiles,
    }
    return json.dumps(document, separators=(",", ":"))


def _profile(key: tuple[bool, int, str], rows: list[StackRow], frames: _Frames) -> dict[str, Any]:
    helper, pid, thread = key
    rows = sorted(rows, key=lambda r: (STAGE_ID.get(r.stage, len(STAGE_ID)), -r.ns))
    weights = [row.ns for row in rows]
    return {
        "type": "sampled",
        "name": f"{printable(thread) or 'unnamed'} (pid {pid}){' helper' if helper else ''}",
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": [_sample(row, frames) for row in rows],
        "weights": weights,
    }


def _sample(row: StackRow, frames: _Frames) -> list[int]:
    """Frame indexes, root first."""
    sample = [frames.id_of(row.stage if row.carrier else "helper")]
    sample += [frames.of_frame(f) for f in reversed(row.frames)] or [frames.id_of(missing_stack_label(row))]
    if wait := wait_label(row):
        sample.append(frames.id_of(wait))
    return sample
