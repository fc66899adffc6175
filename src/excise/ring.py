"""Drains a BPF ring buffer in place and folds its records: no Python per event.

Layout of the ring (kernel/bpf/ringbuf.c): records start at multiples of 8 with a header of two u32; the first is the
length with bit 31 "being written" and bit 30 "discarded". The data pages are mapped twice in a row, so a record that
wraps is read straight on. Positions count bytes for ever; their low bits are the offset.

A record's fixed part is read as 64-bit words. Six of a slice's nine words say what it is and make the fold's key;
three are time. Records that are alike in all but time become one row with exact sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from excise.records import RAW_SLICE_DTYPE, REC_SAMPLE, REC_STACK, REC_TASK, REC_WAIT

KEY_WORDS = 6
"""Words 0-2 (type, state, flags, fd_class, tid; pid, waker; syscall, port, fd) and 6-8 (stack, kstack, ip)."""

ROW_DTYPE = np.dtype([(name, RAW_SLICE_DTYPE[name]) for name in (
    "type", "state", "flags", "fd_class", "tid", "pid", "waker", "syscall", "port", "fd", "pad",
    "stack", "kstack", "ip",
)], align=True)
"""The key words of a folded row, by name."""

DRAINED, FOLD_FULL, SIDE_FULL, AHEAD = 0, 1, 2, 3
"""Why a drain stopped: nothing left; no room to fold; no room for definitions; reached a record after `until_ns`."""

_LENGTH_MASK = 0x3FFFFFFF
_BUSY = 0x80000000
_DISCARD = 0x40000000
_SLICE_BYTES = RAW_SLICE_DTYPE.itemsize
_MULTIPLIER = 0x9E3779B97F4A7C15


@nb.njit("u8(u8,u8)", inline="always", cache=True)
def _mix(h: Any, x: Any) -> Any:
    return (h ^ x) * nb.uint64(_MULTIPLIER)


@nb.njit("i8(u8,u8,u8,u8,u8,u8,i8,i8,i8,u8[:,::1],i8[:,::1],i4[::1],i8[::1])", cache=True)
def fold(
    w0: int,
    w1: int,
    w2: int,
    w6: int,
    w7: int,
    w8: int,
    count: int,
    value: int,
    runnable: int,
    keys: Any,
    sums: Any,
    table: Any,
    used: Any,
) -> int:
    """Adds one record to its row. Returns 0, or -1 when the rows are full (then nothing was changed).

    keys (rows, 6) u64; sums (rows, 3) i64: count, value_ns, runnable_ns; table (power of two, at least 2 x rows) i32,
    row + 1 or 0; used (1,) rows in use.
    """
    h = _mix(_mix(_mix(_mix(_mix(_mix(nb.uint64(0), w0), w1), w2), w6), w7), w8)
    h ^= h >> nb.uint64(32)
    mask = nb.uint64(table.shape[0] - 1)
    slot = nb.int64(h & mask)
    while True:
        row = table[slot] - 1
        if row < 0:
            break
        if (
            keys[row, 0] == w0
            and keys[row, 1] == w1
            and keys[row, 2] == w2
            and keys[row, 3] == w6
            and keys[row, 4] == w7
            and keys[row, 5] == w8
        ):
            sums[row, 0] += count
            sums[row, 1] += value
            sums[row, 2] += runnable
            return 0
        slot = nb.int64(nb.uint64(slot + 1) & mask)
    row = used[0]
    if row >= keys.shape[0]:
        return -1
    used[0] = row + 1
    table[slot] = row + 1
    keys[row, 0], keys[row, 1], keys[row, 2] = w0, w1, w2
    keys[row, 3], keys[row, 4], keys[row, 5] = w6, w7, w8
    sums[row, 0], sums[row, 1], sums[row, 2] = count, value, runnable
    return 0


_WORDS = nb.types.Array(nb.uint64, 1, "C", readonly=True)  # the kernel maps these pages read-only


@nb.njit(
    nb.int64(
        _WORDS,
        _WORDS,
        nb.uint64[::1],
        nb.uint64,
        nb.uint64[:, ::1],
        nb.int64[:, ::1],
        nb.int32[::1],
        nb.int64[::1],
        nb.uint64[::1],
        nb.int64[::1],
        nb.int64[::1],
    ),
    cache=True,
)
def drain(
    data: Any,
    producer: Any,
    consumer: Any,
    until_ns: int,
    keys: Any,
    sums: Any,
    table: Any,
    used: Any,
    side: Any,
    side_used: Any,
    counts: Any,
) -> int:
    """Folds what is in the ring and returns why it stopped (DRAINED, ...).

    data: the data pages, mapped twice, as u64 words; producer, consumer: (1,) positions in bytes. until_ns: stop
    before the first slice that is later (0: take all). side: room for whole stack and task records, each preceded by
    its length in bytes; side_used (1,) words in use. counts (4,): samples, waits, others, unknown.
    """
    size = data.shape[0] * 4  # bytes of one mapping: words * 8 / 2
    mask = nb.uint64(size - 1)
    at = consumer[0]
    stop = DRAINED
    while at < producer[0]:
        word = nb.int64((at & mask) >> nb.uint64(3))
        header = data[word] & nb.uint64(0xFFFFFFFF)
        if header & nb.uint64(_BUSY):
            break
        length = nb.int64(header & nb.uint64(_LENGTH_MASK))
        step = nb.uint64((length + 8 + 7) & ~7)
        if header & nb.uint64(_DISCARD):
            at += step
            continue
        w0 = data[word + 1]
        kind = nb.int64(w0 & nb.uint64(0xFF))
        if kind in (REC_SAMPLE, REC_WAIT) and length == _SLICE_BYTES:
            if until_ns and data[word + 4] > until_ns:
                stop = AHEAD
                break
            if (
                fold(
                    w0,
                    data[word + 2],
                    data[word + 3],
                    data[word + 7],
                    data[word + 8],
                    data[word + 9],
                    1,
                    nb.int64(data[word + 5]),
                    nb.int64(data[word + 6]),
                    keys,
                    sums,
                    table,
                    used,
                )
                < 0
            ):
                stop = FOLD_FULL
                break
            counts[0 if kind == REC_SAMPLE else 1] += 1
        elif kind in (REC_STACK, REC_TASK):
            words = (length + 7) // 8
            if side_used[0] + words + 1 > side.shape[0]:
                stop = SIDE_FULL
                break
            side[side_used[0]] = length
            for i in range(words):
                side[side_used[0] + 1 + i] = data[word + 1 + i]
            side_used[0] += words + 1
            counts[2] += 1
        else:
            counts[3] += 1
        at += step
    consumer[0] = at
    return stop


@dataclass(slots=True)
class Fold:
    """Rows of folded records, and the room beside them for definitions. Reused from tick to tick."""

    rows: int = 16384
    side_words: int = 1 << 18
    keys: NDArray[np.uint64] = field(init=False)
    sums: NDArray[np.int64] = field(init=False)
    table: NDArray[np.int32] = field(init=False)
    used: NDArray[np.int64] = field(init=False)
    side: NDArray[np.uint64] = field(init=False)
    side_used: NDArray[np.int64] = field(init=False)
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.keys = np.zeros((self.rows, KEY_WORDS), np.uint64)
        self.sums = np.zeros((self.rows, 3), np.int64)
        self.table = np.zeros(1 << (2 * self.rows - 1).bit_length(), np.int32)
        self.used = np.zeros(1, np.int64)
        self.side = np.zeros(self.side_words, np.uint64)
        self.side_used = np.zeros(1, np.int64)
        self.counts = np.zeros(4, np.int64)

    def drain(
        self, data: NDArray[np.uint64], producer: NDArray[np.uint64], consumer: NDArray[np.uint64], until_ns: int = 0
    ) -> int:
        """See `drain`."""
        return int(
            drain(
                data,
                producer,
                consumer,
                until_ns,
                self.keys,
                self.sums,
                self.table,
                self.used,
                self.side,
                self.side_used,
                self.counts,
            )
        )

    def add(self, keys: NDArray[np.uint64], sums: NDArray[np.int64]) -> int:
        """Folds rows that are already keyed: keys (n, 6), sums (n, 3). Returns how many found no room."""
        return int(_add_rows(keys, sums, self.keys, self.sums, self.table, self.used))

    def take_rows(self) -> tuple[NDArray[np.void], NDArray[np.int64]]:
        """The rows so far as (ROW_DTYPE (n,), sums (n, 3)), and starts anew."""
        n = int(self.used[0])
        rows = self.keys[:n].copy().view(ROW_DTYPE).reshape(n)
        sums = self.sums[:n].copy()
        self.table[:] = 0
        self.used[0] = 0
        return rows, sums

    def take_side(self) -> bytes:
        """Length-prefixed stack and task records (u64 length, then the record padded to 8 bytes), and starts anew."""
        out = self.side[: int(self.side_used[0])].tobytes()
        self.side_used[0] = 0
        return out


@nb.njit("i8(u8[:,::1],i8[:,::1],u8[:,::1],i8[:,::1],i4[::1],i8[::1])", cache=True)
def _add_rows(new_keys: Any, new_sums: Any, keys: Any, sums: Any, table: Any, used: Any) -> int:
    refused = 0
    for i in range(new_keys.shape[0]):
        k, s = new_keys[i], new_sums[i]
        if fold(k[0], k[1], k[2], k[3], k[4], k[5], s[0], s[1], s[2], keys, sums, table, used) < 0:
            refused += 1
    return refused
