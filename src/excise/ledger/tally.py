"""What was counted over a span, folded as it comes: rows, lengths, totals, losses, the host, our own cost.

Rows alike in all but time and waker are one, so memory grows with the variety of what was seen and not with its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import LENGTH_DTYPE, SLICE_DTYPE, TOTALS_DTYPE, Batch, Cost, HostSample, Totals
from excise.ledger.table import SumTable
from excise.names import KERNEL_STATES

SUM_FIELDS: Final = ("count", "weight_ns", "runnable_ns", "thinned", "weight_var_us2", "runnable_var_us2")
# of a HostSample; what is not of these is a gauge
_COUNTERS = ("throttled_ns", "cpu_ns", "_read_bytes", "_write_bytes", "_in_bytes", "_out_bytes")
_PACKED: Final = (("state", 0), ("flags", 8), ("syscall", 16), ("fd_class", 32), ("fd", 40), ("port", 48))
_MOST_COUNT = np.iinfo(SLICE_DTYPE["count"]).max
_S = len(KERNEL_STATES)


def row_words(slices: NDArray[np.void]) -> NDArray[np.uint64]:
    """What makes slices one row, (n, 3): thread; state, flags, syscall, descriptor, port; stack."""
    words = np.zeros((len(slices), 3), np.uint64)
    words[:, 0] = thread_words(slices)[:, 0]
    for name, shift in _PACKED:
        column = slices[name]
        if name == "syscall":
            column = column.astype(np.uint16)
        words[:, 1] |= column.astype(np.uint64) << np.uint64(shift)
    words[:, 2] = slices["stack"]
    return words


def rows_of(words: NDArray[np.uint64], sums: NDArray[np.int64]) -> NDArray[np.void]:
    """The way back: SLICE_DTYPE (n,), with `waker` zero."""
    out = np.zeros(len(words), SLICE_DTYPE)
    out["pid"], out["tid"] = words[:, 0] >> np.uint64(32), words[:, 0] & np.uint64(0xFFFFFFFF)
    for name, shift in _PACKED:
        bits = 8 * SLICE_DTYPE[name].itemsize
        column = words[:, 1] >> np.uint64(shift) & np.uint64((1 << bits) - 1)
        out[name] = column.astype(np.uint16).view(np.int16) if name == "syscall" else column
    out["stack"] = words[:, 2]
    for name, column in zip(SUM_FIELDS, sums.T, strict=True):
        out[name] = np.minimum(column, _MOST_COUNT) if name == "count" else column
    return out


def thread_words(rows: NDArray[np.void]) -> NDArray[np.uint64]:
    """Whose rows these are, (n, 1): pid and tid in one."""
    words: NDArray[np.uint64] = rows["pid"].astype(np.uint64) << np.uint64(32) | rows["tid"]
    return words[:, None]


def _moved(words: NDArray[np.uint64], moves: Mapping[tuple[int, int], tuple[int, int]]) -> NDArray[np.uint64]:
    found, which = np.unique(words, return_inverse=True)
    for i, word in enumerate(found.tolist()):
        pid, tid = moves.get((word >> 32, word & 0xFFFFFFFF), (word >> 32, word & 0xFFFFFFFF))
        found[i] = pid << 32 | tid
    out: NDArray[np.uint64] = found[which]
    return out


def merge_costs(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Numbers add up, dictionaries do so by key, None (not measured) stays, of anything else the last one counts."""
    out = dict(before)
    for name, value in more.items():
        known = out.get(name, _ABSENT)
        if known is None or value is None:
            out[name] = None
        elif isinstance(known, dict) and isinstance(value, dict):
            out[name] = merge_costs(known, value)
        elif _is_number(known) and _is_number(value):
            out[name] = known + value
        else:
            out[name] = value
    return out


def steps_ns(costs: Mapping[str, Any]) -> dict[str, int]:
    """Time on each of the governor's steps, of what `merge_costs` made; what a recording has there may be anything."""
    steps = costs.get("steps_ns")
    known = steps.items() if isinstance(steps, dict) else ()
    return {str(name): max(round(ns), 0) for name, ns in known if _is_number(ns)}


_ABSENT: Any = object()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Tally:
    """Sums since it was made."""

    def __init__(self) -> None:
        self.lost: dict[str, int] = {}
        self.host: dict[str, Any] = {}
        self.costs: dict[str, Any] = {}
        self.totals = SumTable(1, _S + 5)  # by thread: states, lifetime, schedstat's two, spans that lack either
        self._se2 = np.zeros((0, _S))  # ns^2, by thread
        self._rows = SumTable(3, len(SUM_FIELDS))
        self._lengths = SumTable(1, 1)

    def take_batch(self, batch: Batch) -> None:
        slices = batch.slices
        if len(slices):
            values = np.empty((len(slices), len(SUM_FIELDS)), np.int64)
            for i, name in enumerate(SUM_FIELDS):
                values[:, i] = slices[name]
            rows = self._rows.add(row_words(slices), values)
            if len(batch.lengths):
                buckets = batch.lengths["bucket"].astype(np.int64) + 32768
                words = (rows[batch.lengths["row"]] << 16 | buckets).view(np.uint64)
                self._lengths.add(words[:, None], batch.lengths["weight"].astype(np.int64)[:, None])
        for name, count in batch.lost.items():
            self.lost[name] = self.lost.get(name, 0) + count

    def take_totals(self, item: Totals) -> None:
        rows = item.rows
        if not len(rows):
            return
        values = np.zeros((len(rows), self.totals.columns), np.int64)
        values[:, :_S] = rows["state_ns"]
        values[:, _S] = rows["lifetime_ns"]
        for i, name in enumerate(("sched_running_ns", "sched_runnable_ns"), start=_S + 1):
            values[:, i] = np.maximum(rows[name], 0)
            values[:, i + 2] = rows[name] < 0
        at = self.totals.add(thread_words(rows), values)
        if rows["se_ns"].any():
            self._se2 = np.concatenate((self._se2, np.zeros((len(self.totals) - len(self._se2), _S))))
            np.add.at(self._se2, at, rows["se_ns"].astype(np.float64) ** 2)

    def take_host(self, item: HostSample) -> None:
        for name, value in item.values.items():
            before = self.host.get(name)
            if name in self.host and name.endswith(_COUNTERS):
                self.host[name] = None if value is None or before is None else before + value
            elif name == "listen_ports":
                self.host[name] = sorted(set(before or ()) | set(value or ()))
            else:
                self.host[name] = value

    def take_cost(self, item: Cost) -> None:
        self.costs = merge_costs(self.costs, item.values)

    def move(self, moves: Mapping[tuple[int, int], tuple[int, int]]) -> None:
        """What threads (pid, tid) had is others' from now on. Sums stay."""
        rows, lengths, totals, se2 = self._rows, self._lengths, self.totals, self._se2
        self._rows = SumTable(3, len(SUM_FIELDS))
        self._lengths = SumTable(1, 1)
        self.totals = SumTable(1, _S + 5)
        words = rows.keys.copy()
        words[:, 0] = _moved(words[:, 0], moves)
        at = self._rows.add(words, rows.sums)
        codes = lengths.keys[:, 0].astype(np.int64)
        words = (at[codes >> 16] << 16 | codes & 0xFFFF).view(np.uint64)
        self._lengths.add(words[:, None], lengths.sums)
        at = self.totals.add(_moved(totals.keys[:, 0], moves)[:, None], totals.sums)
        self._se2 = np.zeros((len(self.totals), _S))
        np.add.at(self._se2, at[: len(se2)], se2)

    def slices(self) -> NDArray[np.void]:
        """All rows, folded: SLICE_DTYPE (n,), in the order of their first sight, with `waker` zero."""
        return rows_of(self._rows.keys, self._rows.sums)

    def lengths(self) -> NDArray[np.void]:
        """How long the waits of these rows were: LENGTH_DTYPE (m,)."""
        codes = self._lengths.keys[:, 0].astype(np.int64)
        out = np.zeros(len(codes), LENGTH_DTYPE)
        out["row"], out["bucket"] = codes >> 16, (codes & 0xFFFF) - 32768
        out["weight"] = self._lengths.sums[:, 0]
        return out

    def totals_array(self) -> NDArray[np.void]:
        """Totals, TOTALS_DTYPE (T,), one row a thread, in the order of their first sight."""
        words, sums = self.totals.keys[:, 0], self.totals.sums
        out = np.zeros(len(words), TOTALS_DTYPE)
        out["pid"], out["tid"] = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)
        out["state_ns"], out["lifetime_ns"] = sums[:, :_S], sums[:, _S]
        for i, name in enumerate(("sched_running_ns", "sched_runnable_ns"), start=_S + 1):
            out[name] = np.where(sums[:, i + 2] == 0, sums[:, i], -1)
        out["se_ns"][: len(self._se2)] = np.rint(np.sqrt(self._se2))
        return out
