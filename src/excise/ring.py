"""Folds the records of a BPF ring buffer into rows, with no Python per event. The compiled half is `excise.drain`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from excise.batch import LENGTH_DTYPE
from excise.drain import AHEAD, DRAINED, FOLD_FULL, SIDE_FULL, add_rows, drain
from excise.records import RAW_SLICE_DTYPE

__all__ = ["AHEAD", "DRAINED", "FOLD_FULL", "KEY_WORDS", "ROW_DTYPE", "SIDE_FULL", "Fold", "Folded"]

KEY_WORDS = 6
"""Words 0-2 (type, state, flags, fd_class, tid; pid, waker; syscall, port, fd) and 6-8 (stack, kstack, ip)."""

ROW_DTYPE = np.dtype([(name, RAW_SLICE_DTYPE[name]) for name in (
    "type", "state", "flags", "fd_class", "tid", "pid", "waker", "syscall", "port", "fd", "pad",
    "stack", "kstack", "ip",
)], align=True)
"""The key words of a folded row, by name."""

LENGTHS_PER_ROW = 4  # of the room for lengths; the demo server's waits have 2.6


@dataclass(frozen=True, slots=True)
class Folded:
    """Rows as they were taken: ROW_DTYPE (n,); sums (n, 4) i64: count, value_ns, runnable_ns, thinned (weight beyond
    count, in 1/WEIGHT_ONE); variances (n, 2) f64 of value_ns and runnable_ns, ns^2; lengths LENGTH_DTYPE, by row."""

    rows: NDArray[np.void]
    sums: NDArray[np.int64]
    variances: NDArray[np.float64]
    lengths: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class Fold:
    """Rows of folded records, and the room beside them for definitions. Reused from tick to tick."""

    rows: int = 16384
    side_words: int = 1 << 18
    max_lengths: int = 0  # 0: LENGTHS_PER_ROW for each row
    keys: NDArray[np.uint64] = field(init=False)
    sums: NDArray[np.int64] = field(init=False)
    variances: NDArray[np.float64] = field(init=False)
    table: NDArray[np.int32] = field(init=False)
    used: NDArray[np.int64] = field(init=False)
    lengths: NDArray[np.int64] = field(init=False)
    length_table: NDArray[np.int32] = field(init=False)
    length_used: NDArray[np.int64] = field(init=False)
    side: NDArray[np.uint64] = field(init=False)
    side_used: NDArray[np.int64] = field(init=False)
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.max_lengths = self.max_lengths or LENGTHS_PER_ROW * self.rows
        self.keys = np.zeros((self.rows, KEY_WORDS), np.uint64)
        self.sums = np.zeros((self.rows, 4), np.int64)
        self.variances = np.zeros((self.rows, 2), np.float64)
        self.table = np.zeros(1 << (2 * self.rows - 1).bit_length(), np.int32)
        self.used = np.zeros(1, np.int64)
        self.lengths = np.zeros((self.max_lengths, 2), np.int64)
        self.length_table = np.zeros(1 << (2 * self.max_lengths - 1).bit_length(), np.int32)
        self.length_used = np.zeros(1, np.int64)
        self.side = np.zeros(self.side_words, np.uint64)
        self.side_used = np.zeros(1, np.int64)
        self.counts = np.zeros(4, np.int64)

    def drain(
        self, data: NDArray[np.uint64], producer: NDArray[np.uint64], consumer: NDArray[np.uint64], until_ns: int = 0
    ) -> int:
        """See `excise.drain.drain`."""
        return drain(
            data, producer, consumer, until_ns,
            self.keys, self.sums, self.variances, self.table, self.used,
            self.lengths, self.length_table, self.length_used,
            self.side, self.side_used, self.counts,
        )

    def add(self, keys: NDArray[np.uint64], sums: NDArray[np.int64]) -> int:
        """Folds rows that are already keyed: keys (n, 6); sums (n, 3) of count, value_ns, runnable_ns, which are exact.
        Returns how many found no room."""
        return add_rows(
            keys, sums,
            self.keys, self.sums, self.variances, self.table, self.used,
            self.lengths, self.length_table, self.length_used,
        )

    def take_rows(self) -> Folded:
        """The rows so far, and starts anew."""
        n, m = int(self.used[0]), int(self.length_used[0])
        lengths = np.zeros(m, LENGTH_DTYPE)
        found = self.lengths[:m][np.argsort(self.lengths[:m, 0])]
        lengths["row"] = found[:, 0] >> 16
        lengths["bucket"] = (found[:, 0] & 0xFFFF) - 32768
        lengths["weight"] = found[:, 1]
        folded = Folded(
            self.keys[:n].copy().view(ROW_DTYPE).reshape(n), self.sums[:n].copy(), self.variances[:n].copy(), lengths
        )
        if n:
            self.table[:] = 0
        if m:
            self.length_table[:] = 0
        self.used[0] = self.length_used[0] = 0
        return folded

    def take_side(self) -> bytes:
        """Length-prefixed stack and task records (u64 length, then the record padded to 8 bytes), and starts anew."""
        out = self.side[: int(self.side_used[0])].tobytes()
        self.side_used[0] = 0
        return out
