"""Slices and totals as columns. Columns are named, so that fields can be appended to the dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from excise.batch import LENGTH_DTYPE, SLICE_DTYPE, TOTALS_DTYPE, Batch, LengthArray, SliceArray, Totals, TotalsArray
from excise.names import KERNEL_STATES
from excise.recording._columns import Column, decode_column, encode_column
from excise.recording._fields import MAX_I64, integer, mapping, sequence, span
from excise.recording._format import Damaged
from excise.recording._lists import Lists, translate

MAX_ROWS: Final = 1 << 14
"""Rows in one frame: 17 columns of at most 8 bytes stay far below the limit of a payload."""

MAX_LENGTHS: Final = 1 << 16
"""Lengths in one frame: 3 columns."""

_ABSENT: Final = {"syscall": -1, "fd": 255, "sched_running_ns": -1, "sched_runnable_ns": -1}
"""What a field says when the file has no such column; others: 0."""

_LATER: Final = ("thinned", "weight_var_us2", "runnable_var_us2")
_BY_STATE: Final = ("state_ns", "se_ns")
_NO_LENGTHS: Final = np.zeros(0, LENGTH_DTYPE)


def encode_batch(batch: Batch) -> list[dict[str, Any]]:
    """One frame's content, or several when the batch is huge; the first carries the losses."""
    rows, lengths = batch.slices, batch.lengths
    if len(lengths) and np.any(np.diff(lengths["row"].astype(np.int64)) < 0):
        lengths = lengths[np.argsort(lengths["row"], kind="stable")]
    if len(lengths) and int(lengths["row"][-1]) >= len(rows):
        raise ValueError("a length is of no slice")
    out: list[dict[str, Any]] = []
    for start, end, first, last in _parts(len(rows), lengths["row"].astype(np.int64)):
        part = rows[start:end]
        columns = {name: encode_column(part[name]) for name in _names(SLICE_DTYPE) if _worth(part, name)}
        lost = batch.lost if not out else {}
        frame = {"start_ns": batch.start_ns, "end_ns": batch.end_ns, "rows": len(part), "columns": columns,
                 "lost": lost}
        if last > first:
            frame["lengths"] = _encode_lengths(lengths[first:last], start)
        out.append(frame)
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
    lengths = _decode_lengths(mapping(content, "lengths"), rows) if "lengths" in content else _NO_LENGTHS.copy()
    return Batch(start_ns, end_ns, slices, lost, lengths)


def _parts(rows: int, row_of: Any) -> Iterator[tuple[int, int, int, int]]:
    """(start, end) of rows and (first, last) of their lengths, which are sorted by row, frame by frame."""
    start = first = 0
    while True:
        end = min(start + MAX_ROWS, rows)
        last = int(np.searchsorted(row_of, end))
        if last - first > MAX_LENGTHS:
            end = int(row_of[first + MAX_LENGTHS])  # the first row that does not fit
            if end == start:
                raise ValueError("a slice has too many lengths")
            last = int(np.searchsorted(row_of, end))
        yield start, end, first, last
        start, first = end, last
        if start >= rows:
            return


def _encode_lengths(lengths: LengthArray, start: int) -> dict[str, Any]:
    """The row as what it is more than the one before."""
    steps = np.diff(lengths["row"].astype(np.int64), prepend=start)
    return {"rows": len(lengths), "step": encode_column(steps), "bucket": encode_column(lengths["bucket"]),
            "weight": encode_column(lengths["weight"])}


def _decode_lengths(content: dict[str, Any], slices: int) -> LengthArray:
    rows = integer(content, "rows", MAX_LENGTHS)
    out: LengthArray = np.zeros(rows, LENGTH_DTYPE)
    steps = decode_column(content.get("step"), rows, LENGTH_DTYPE["row"]).astype(np.int64)
    row = np.cumsum(steps)  # at most 2^16 steps of 32 bits
    if rows and int(row[-1]) >= slices:
        raise Damaged("a length is of no slice")
    out["row"] = row
    for name in ("bucket", "weight"):
        out[name] = decode_column(content.get(name), rows, LENGTH_DTYPE[name])
    return out


def encode_totals(totals: Totals) -> list[dict[str, Any]]:
    rows = totals.rows
    out = []
    for start in range(0, max(len(rows), 1), MAX_ROWS):
        part = rows[start:start + MAX_ROWS]
        columns = {name: encode_column(part[name])
                   for name in _names(TOTALS_DTYPE) if name not in _BY_STATE}
        frame = {"start_ns": totals.start_ns, "end_ns": totals.end_ns, "rows": len(part), "columns": columns}
        for name in _BY_STATE:
            if name == "state_ns" or part[name].any():
                states: list[Column] = [encode_column(part[name][:, i]) for i in range(len(KERNEL_STATES))]
                frame[name] = states
        out.append(frame)
    return out


def decode_totals(content: dict[str, Any], lists: Lists) -> Totals:
    """Time of a state that today's list does not name is added to `other`: the ledger stays closed."""
    start_ns, end_ns = span(content)
    rows, columns = integer(content, "rows", MAX_ROWS), mapping(content, "columns")
    out: TotalsArray = np.zeros(rows, TOTALS_DTYPE)
    for name in _names(TOTALS_DTYPE):
        if name not in _BY_STATE:
            out[name] = _column(columns, name, rows, TOTALS_DTYPE[name])
    for packed, state in zip(_states(content, "state_ns", lists), lists.states, strict=True):
        out["state_ns"][:, state] += decode_column(packed, rows, np.dtype(np.int64))
    if "se_ns" in content:
        for packed, state in zip(_states(content, "se_ns", lists), lists.states, strict=True):
            error, before = decode_column(packed, rows, np.dtype(np.int64)), out["se_ns"][:, state]
            if rows and int(error.min()) < 0:
                raise Damaged("a standard error is negative")
            both = np.rint(np.hypot(before.astype(np.float64), error.astype(np.float64)))
            out["se_ns"][:, state] = np.where(before == 0, error, np.minimum(both, 1 << 62).astype(np.int64))
    return Totals(start_ns, end_ns, out)


def _states(content: dict[str, Any], key: str, lists: Lists) -> list[Any]:
    states = sequence(content, key)
    if len(states) != len(lists.states):
        raise Damaged("its totals do not have one column a state")
    return states


def _names(dtype: np.dtype[Any]) -> tuple[str, ...]:
    return dtype.names or ()


def _worth(part: SliceArray, name: str) -> bool:
    """Whether a column says anything that its absence does not. Those of old are always there."""
    return name not in _LATER or bool(part[name].any())


def _column(columns: dict[str, Any], name: str, rows: int, dtype: np.dtype[Any]) -> Any:
    return decode_column(columns[name], rows, dtype) if name in columns else _ABSENT.get(name, 0)
