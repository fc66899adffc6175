"""Slices and totals as columns. Columns are named, so that fields can be appended to the dtypes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, SliceArray, Totals, TotalsArray
from excise.names import KERNEL_STATES
from excise.recording._columns import Column, decode_column, encode_column
from excise.recording._fields import MAX_I64, integer, mapping, sequence, span
from excise.recording._format import Damaged
from excise.recording._lists import Lists, translate

MAX_ROWS: Final = 1 << 14
"""Rows in one frame: 14 columns of at most 8 bytes stay far below the limit of a payload."""

_ABSENT: Final = {"syscall": -1, "fd": 255, "sched_running_ns": -1, "sched_runnable_ns": -1}
"""What a field says when the file has no such column; others: 0."""


def encode_batch(batch: Batch) -> list[dict[str, Any]]:
    """One frame's content, or several when the batch is huge; the first carries the losses."""
    rows = batch.slices
    out = []
    for start in range(0, max(len(rows), 1), MAX_ROWS):
        part = rows[start:start + MAX_ROWS]
        columns = {name: encode_column(part[name]) for name in _names(SLICE_DTYPE)}
        lost = batch.lost if start == 0 else {}
        out.append({"start_ns": batch.start_ns, "end_ns": batch.end_ns, "rows": len(part),
                    "columns": columns, "lost": lost})
    return out


def decode_batch(content: dict[str, Any], lists: Lists, stacks: int) -> Batch:
    start_ns, end_ns = span(content)
    rows, columns = integer(content, "rows", MAX_ROWS), mapping(content, "columns")
    slices: SliceArray = np.zeros(rows, SLICE_DTYPE)
    for name in _names(SLICE_DTYPE):
        slices[name] = _column(columns, name, rows, SLICE_DTYPE[name])
    slices["state"] = translate(slices["state"], lists.states, "state")
    slices["fd_class"] = translate(slices["fd_class"], lists.fd_classes, "descriptor class")
    if rows and int(slices["stack"].max()) > stacks:
        raise Damaged("a slice names a stack that is not defined")
    lost = mapping(content, "lost")
    for name in lost:
        integer(lost, name, MAX_I64)
    return Batch(start_ns, end_ns, slices, lost)


def encode_totals(totals: Totals) -> list[dict[str, Any]]:
    rows = totals.rows
    out = []
    for start in range(0, max(len(rows), 1), MAX_ROWS):
        part = rows[start:start + MAX_ROWS]
        columns = {name: encode_column(part[name])
                   for name in _names(TOTALS_DTYPE) if name != "state_ns"}
        states: list[Column] = [encode_column(part["state_ns"][:, i]) for i in range(len(KERNEL_STATES))]
        out.append({"start_ns": totals.start_ns, "end_ns": totals.end_ns, "rows": len(part),
                    "columns": columns, "state_ns": states})
    return out


def decode_totals(content: dict[str, Any], lists: Lists) -> Totals:
    """Time of a state that today's list does not name is added to `other`: the ledger stays closed."""
    start_ns, end_ns = span(content)
    rows, columns = integer(content, "rows", MAX_ROWS), mapping(content, "columns")
    out: TotalsArray = np.zeros(rows, TOTALS_DTYPE)
    for name in _names(TOTALS_DTYPE):
        if name != "state_ns":
            out[name] = _column(columns, name, rows, TOTALS_DTYPE[name])
    states = sequence(content, "state_ns")
    if len(states) != len(lists.states):
        raise Damaged("its totals do not have one column a state")
    for packed, state in zip(states, lists.states, strict=True):
        out["state_ns"][:, state] += decode_column(packed, rows, np.dtype(np.int64))
    return Totals(start_ns, end_ns, out)


def _names(dtype: np.dtype[Any]) -> tuple[str, ...]:
    return dtype.names or ()


def _column(columns: dict[str, Any], name: str, rows: int, dtype: np.dtype[Any]) -> Any:
    return decode_column(columns[name], rows, dtype) if name in columns else _ABSENT.get(name, 0)
