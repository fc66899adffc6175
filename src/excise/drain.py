"""The compiled half of `excise.ring`: drains a BPF ring buffer in place and folds its records.

Layout of the ring (kernel/bpf/ringbuf.c): records start at multiples of 8 with a header of two u32; the first is the
length with bit 31 "being written" and bit 30 "discarded". The data pages are mapped twice in a row, so a record that
wraps is read straight on. Positions count bytes for ever; their low bits are the offset.

A record's fixed part is read as 64-bit words. Six of a slice's ten words say what it is and make the fold's key;
three are time, one is its weight. Records that are alike in all but time become one row. A record that stands for
others (the governor left them out) adds its time by its weight: exactly for weight one, else to the nearest ns.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, Final

import numba as nb
import numpy as np

from excise.ledger.kernel import kernel
from excise.records import RAW_SLICE_DTYPE, REC_SAMPLE, REC_STACK, REC_TASK, REC_WAIT, WEIGHT_ONE

DRAINED, FOLD_FULL, SIDE_FULL, AHEAD = 0, 1, 2, 3
"""Why a drain stopped: nothing left; no room to fold; no room for definitions; reached a record after `until_ns`."""

NO_BUCKET: Final = -32768
SCALE: Final = 4
"""Of the histograms of lengths, as OpenTelemetry counts: 2^4 buckets for each power of two, 4.4 % wide."""

MOST_NS: Final = 1 << 55
"""What one record can add: 416 days. More is no time, and would overflow a sum."""

COUNT, VALUE_NS, RUNNABLE_NS, THINNED = 0, 1, 2, 3
"""The columns of a row's sums."""

_LENGTH_MASK = 0x3FFFFFFF
_BUSY = 0x80000000
_DISCARD = 0x40000000
_SLICE_BYTES = RAW_SLICE_DTYPE.itemsize
_MULTIPLIER = 0x9E3779B97F4A7C15
_FACTORS = (  # odd, otherwise random
    0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93,
    0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3,
)

_BUCKETS = 1 << SCALE
_ROOTS = np.array(  # floor(2^(63 + k/16)): a length of 64 bits is over such a power when it is over its floor
    [isqrt(isqrt(isqrt(isqrt(1 << (63 * _BUCKETS + k))))) for k in range(_BUCKETS)], np.uint64
)

_ROOTS = np.append(_ROOTS, np.uint64(0xFFFFFFFFFFFFFFFF))  # none is above
_CELLS = 32  # of an octave, alike; the roots are 4.4 % apart, so that no cell has two
_BELOW = np.array([np.count_nonzero(_ROOTS[:-1] < np.uint64((_CELLS + i) << 58)) for i in range(_CELLS)], np.int64)

_U8, _I8, _F8 = nb.uint64, nb.int64, nb.float64
_ROWS = (_U8[:, ::1], _I8[:, ::1], _F8[:, ::1], nb.int32[::1], _I8[::1])
_LENGTHS = (_I8[:, ::1], nb.int32[::1], _I8[::1])


@nb.njit("u8(u8,u8)", inline="always", cache=True)
def _mix(h: Any, x: Any) -> Any:
    return (h ^ x) * nb.uint64(_MULTIPLIER)


@kernel("i8(u8)")
def bucket_of(ns: Any) -> Any:
    """The bucket b with 2^(b/16) < ns <= 2^((b+1)/16); -1 for 0 and 1."""
    if ns <= nb.uint64(1):
        return -1
    # the place of the highest bit is the exponent of the number as a double, which holds 53 bits exactly
    if ns >> nb.uint64(53):
        high = 12 + (nb.int64(np.float64(ns >> nb.uint64(12)).view(np.uint64) >> nb.uint64(52)) - 1023)
    else:
        high = nb.int64(np.float64(ns).view(np.uint64) >> nb.uint64(52)) - 1023
    mantissa = ns << nb.uint64(63 - high)
    below = nb.int64(_BELOW[(mantissa >> nb.uint64(58)) & nb.uint64(31)])
    return high * _BUCKETS + below + nb.int64(mantissa > _ROOTS[below]) - 1


@kernel("i8(u8,i8)")
def weighted(ns: Any, weight: Any) -> Any:
    """ns x weight / WEIGHT_ONE, to the nearest ns; at most MOST_NS. Exact when the weight is a whole number."""
    if weight == WEIGHT_ONE and ns < nb.uint64(MOST_NS):
        return nb.int64(ns)
    if nb.float64(ns) * weight >= MOST_NS * 256.0:
        return MOST_NS
    whole, part, n = weight >> 8, weight & 255, nb.int64(ns)
    return n * whole + (n >> 8) * part + (((n & 255) * part + 128) >> 8)


@kernel(nb.int64(*[_U8] * 6, *[_I8] * 4, _F8, _F8, _I8, *_ROWS, *_LENGTHS))
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
    thinned: int,
    value_var: float,
    runnable_var: float,
    bucket: int,
    keys: Any,
    sums: Any,
    variances: Any,
    table: Any,
    used: Any,
    lengths: Any,
    length_table: Any,
    length_used: Any,
) -> int:
    """Adds one record to its row. Returns 0, or -1 when rows or lengths are full (then nothing was changed).

    keys (rows, 6) u64; sums (rows, 4) i64: count, value_ns, runnable_ns, thinned; variances (rows, 2) f64: of value_ns
    and runnable_ns, ns^2; table (power of two, at least 2 x rows) i32, row + 1 or 0; used (1,) rows in use.
    bucket: of the wait's length, or NO_BUCKET. lengths (n, 2) i64: row << 16 | bucket + 32768, and weight; length_table
    and length_used as for the rows.
    """
    # products that do not wait for one another; each word has a factor of its own
    h = (w0 * nb.uint64(_FACTORS[0])) ^ (w1 * nb.uint64(_FACTORS[1])) ^ (w2 * nb.uint64(_FACTORS[2]))
    h += (w6 * nb.uint64(_FACTORS[3])) ^ (w7 * nb.uint64(_FACTORS[4])) ^ (w8 * nb.uint64(_FACTORS[5]))
    h = _mix(h >> nb.uint64(29), h)
    h ^= h >> nb.uint64(32)
    mask = nb.uint64(table.shape[0] - 1)
    slot = nb.int64(h & mask)
    while True:
        row = nb.int64(table[slot]) - 1
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
            break
        slot = nb.int64(nb.uint64(slot + 1) & mask)
    new = row < 0
    if new:
        row = used[0]
        if row >= keys.shape[0]:
            return -1
    if bucket != NO_BUCKET:
        code = row << 16 | (bucket + 32768)
        h = _mix(nb.uint64(0), nb.uint64(code))
        h ^= h >> nb.uint64(32)
        mask = nb.uint64(length_table.shape[0] - 1)
        at = nb.int64(h & mask)
        while length_table[at] and lengths[length_table[at] - 1, 0] != code:
            at = nb.int64(nb.uint64(at + 1) & mask)
        if length_table[at] == 0:
            if length_used[0] >= lengths.shape[0]:
                return -1
            lengths[length_used[0], 0], lengths[length_used[0], 1] = code, 0
            length_used[0] += 1
            length_table[at] = length_used[0]
        lengths[length_table[at] - 1, 1] += count * WEIGHT_ONE + thinned
    if new:
        used[0] = row + 1
        table[slot] = row + 1
        keys[row, 0], keys[row, 1], keys[row, 2] = w0, w1, w2
        keys[row, 3], keys[row, 4], keys[row, 5] = w6, w7, w8
        sums[row, 0], sums[row, 1], sums[row, 2], sums[row, 3] = count, value, runnable, thinned
        variances[row, 0], variances[row, 1] = value_var, runnable_var
        return 0
    sums[row, 0] += count
    sums[row, 1] += value
    sums[row, 2] += runnable
    sums[row, 3] += thinned
    variances[row, 0] += value_var
    variances[row, 1] += runnable_var
    return 0


_WORDS = nb.types.Array(nb.uint64, 1, "C", readonly=True)  # the kernel maps these pages read-only


@kernel(nb.int64(_WORDS, _WORDS, _U8[::1], _U8, *_ROWS, *_LENGTHS, _U8[::1], _I8[::1], _I8[::1]))
def drain(
    data: Any,
    producer: Any,
    consumer: Any,
    until_ns: int,
    keys: Any,
    sums: Any,
    variances: Any,
    table: Any,
    used: Any,
    lengths: Any,
    length_table: Any,
    length_used: Any,
    side: Any,
    side_used: Any,
    counts: Any,
) -> int:
    """Folds what is in the ring and returns why it stopped (DRAINED, ...).

    data: the data pages, mapped twice, as u64 words; producer, consumer: (1,) positions in bytes. until_ns: stop
    before the first slice that is later (0: take all). Rows and lengths: see `fold`. side: room for whole stack and
    task records, each preceded by its length in bytes; side_used (1,) words in use. counts (4,): samples, waits,
    others, unknown.
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
            value, runnable = data[word + 5], data[word + 6]
            weight = max(nb.int64(data[word + 10] & nb.uint64(0xFFFFFFFF)), WEIGHT_ONE)
            spread = 0.0  # how far a record that was sent with probability 1/times scatters
            if weight != WEIGHT_ONE:
                times = weight / WEIGHT_ONE
                spread = times * (times - 1.0)
            if (
                fold(
                    w0,
                    data[word + 2],
                    data[word + 3],
                    data[word + 7],
                    data[word + 8],
                    data[word + 9],
                    1,
                    weighted(value, weight),
                    weighted(runnable, weight),
                    weight - WEIGHT_ONE,
                    nb.float64(value) * nb.float64(value) * spread,
                    nb.float64(runnable) * nb.float64(runnable) * spread,
                    bucket_of(value) if kind == REC_WAIT else NO_BUCKET,
                    keys,
                    sums,
                    variances,
                    table,
                    used,
                    lengths,
                    length_table,
                    length_used,
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


@kernel(nb.int64(_U8[:, ::1], _I8[:, ::1], *_ROWS, *_LENGTHS))
def add_rows(
    new_keys: Any,
    new_sums: Any,
    keys: Any,
    sums: Any,
    variances: Any,
    table: Any,
    used: Any,
    lengths: Any,
    length_table: Any,
    length_used: Any,
) -> int:
    """Folds rows that are already keyed: (n, 6) u64; (n, 3) i64 of exact count, value_ns and runnable_ns, of no length.

    Returns how many found no room.
    """
    refused = 0
    for i in range(new_keys.shape[0]):
        k, s = new_keys[i], new_sums[i]
        if (
            fold(
                k[0], k[1], k[2], k[3], k[4], k[5], s[0], s[1], s[2], 0, 0.0, 0.0, NO_BUCKET,
                keys, sums, variances, table, used, lengths, length_table, length_used,
            )
            < 0
        ):
            refused += 1
    return refused
