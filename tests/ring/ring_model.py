"""A ring as the kernel writes it, and a plain twin of the drain: what numba does, in dictionaries and lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from excise.drain import MOST_NS
from excise.records import RAW_SLICE_DTYPE, REC_SAMPLE, REC_STACK, REC_TASK, REC_WAIT, WEIGHT_ONE
from excise.ring import AHEAD, DRAINED, FOLD_FULL, ROW_DTYPE, SIDE_FULL, Fold

BUSY, DISCARD = 1 << 31, 1 << 30
KEY_FIELDS = tuple(name for name in ROW_DTYPE.names or () if name != "pad")


@dataclass(frozen=True, slots=True)
class Written:
    """One record: its bytes, and the bits of its header."""

    content: bytes
    discarded: bool = False
    busy: bool = False

    @property
    def header(self) -> int:
        return len(self.content) | (DISCARD if self.discarded else 0) | (BUSY if self.busy else 0)

    @property
    def step(self) -> int:
        return (len(self.content) + 8 + 7) // 8 * 8


class KernelRing:
    """`data` holds the pages twice; a write goes to both, as two mappings of one page would show it."""

    def __init__(self, size: int, start: int = 0) -> None:
        assert size & (size - 1) == 0 and start % 8 == 0
        self.size = size
        self.data = np.full(size // 4, 0xA5A5_A5A5_A5A5_A5A5, np.uint64)    # what lies there is never zero
        self.producer = np.array([start], np.uint64)
        self.consumer = np.array([start], np.uint64)

    def _put(self, at: int, raw: bytes) -> None:
        one = self.data.view(np.uint8)
        for i, byte in enumerate(raw):
            one[(at + i) % self.size] = one[(at + i) % self.size + self.size] = byte

    def room(self) -> int:
        return self.size - (int(self.producer[0]) - int(self.consumer[0]))

    def write(self, record: Written) -> bool:
        """False when there is no room, as bpf_ringbuf_output."""
        if record.step > self.room():
            return False
        at = int(self.producer[0])
        self._put(at, record.header.to_bytes(4, "little") + b"\xee\xee\xee\xee" + record.content)
        self.producer[0] = at + record.step
        return True

    def commit(self, at: int, record: Written) -> None:
        """Clears the busy bit of a record that was written at `at`."""
        self._put(at, (record.header & ~BUSY).to_bytes(4, "little"))


def slice_record(**fields: int) -> bytes:
    raw = np.zeros((), RAW_SLICE_DTYPE)
    for name, value in fields.items():
        raw[name] = value
    return raw.tobytes()


def key_of(raw: Any) -> tuple[int, ...]:
    return tuple(int(raw[name]) for name in KEY_FIELDS)


def plain_bucket(ns: int) -> int:
    """The b with 2^b < ns^16 <= 2^(b+1): b/16 < log2(ns) <= (b+1)/16. 0 counts as 1, which is in -1."""
    return (max(ns, 1) ** 16 - 1).bit_length() - 1


def plain_weighted(ns: int, weight: int) -> int:
    """To the nearest ns, half of one up."""
    return MOST_NS if float(ns) * weight >= MOST_NS * 256.0 else (ns * weight + WEIGHT_ONE // 2) // WEIGHT_ONE


@dataclass(slots=True)
class Row:
    """What a Fold has of a key. `sums`: count, value_ns, runnable_ns, thinned; `lengths`: bucket -> weight."""

    sums: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    variances: list[float] = field(default_factory=lambda: [0.0, 0.0])
    lengths: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Twin:
    """What a Fold holds, the slow way. `rows` in order of first sight."""

    max_rows: int
    max_side_words: int
    max_lengths: int = 1 << 60
    rows: dict[tuple[int, ...], Row] = field(default_factory=dict)
    side: list[bytes] = field(default_factory=list)
    side_words: int = 0
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def drain(self, pending: list[Written], until_ns: int = 0) -> int:
        """Takes records off the front of `pending`."""
        while pending:
            record = pending[0]
            if record.busy:
                return DRAINED
            if not record.discarded:
                stop = self._take(record.content, until_ns)
                if stop != DRAINED:
                    return stop
            pending.pop(0)
        return DRAINED

    def _take(self, content: bytes, until_ns: int) -> int:
        kind = content[0]
        if kind in (REC_SAMPLE, REC_WAIT) and len(content) == RAW_SLICE_DTYPE.itemsize:
            raw = np.frombuffer(content, RAW_SLICE_DTYPE)[0]
            if until_ns and int(raw["ts_ns"]) > until_ns:
                return AHEAD
            key = key_of(raw)
            if key not in self.rows and len(self.rows) == self.max_rows:
                return FOLD_FULL
            weight, times = max(int(raw["weight"]), WEIGHT_ONE), [int(raw["value_ns"]), int(raw["runnable_ns"])]
            bucket = plain_bucket(times[0]) if kind == REC_WAIT else None
            known = self.rows.get(key, Row())
            if bucket is not None and bucket not in known.lengths and self.lengths_used() == self.max_lengths:
                return FOLD_FULL
            row = self.rows.setdefault(key, known)
            for i, n in enumerate((1, *(plain_weighted(t, weight) for t in times), weight - WEIGHT_ONE)):
                row.sums[i] += n
            for i, t in enumerate(times):
                row.variances[i] += float(t) * float(t) * (weight / WEIGHT_ONE * (weight / WEIGHT_ONE - 1.0))
            if bucket is not None:
                row.lengths[bucket] = row.lengths.get(bucket, 0) + weight
            self.counts[0 if kind == REC_SAMPLE else 1] += 1
        elif kind in (REC_STACK, REC_TASK):
            words = (len(content) + 7) // 8 + 1
            if self.side_words + words > self.max_side_words:
                return SIDE_FULL
            self.side_words += words
            self.side.append(content)
            self.counts[2] += 1
        else:
            self.counts[3] += 1
        return DRAINED

    def lengths_used(self) -> int:
        return sum(len(row.lengths) for row in self.rows.values())

    def take_rows(self) -> dict[tuple[int, ...], Row]:
        out, self.rows = self.rows, {}
        return out

    def take_side(self) -> list[bytes]:
        out, self.side, self.side_words = self.side, [], 0
        return out


def rows_of(fold: Fold) -> dict[tuple[int, ...], Row]:
    """The rows of a Fold as the twin has them; takes them."""
    folded = fold.take_rows()
    keys: Sequence[tuple[int, ...]] = [key_of(row) for row in folded.rows]
    assert len(set(keys)) == len(keys), "one key in two rows"
    lengths: list[dict[int, int]] = [{} for _ in keys]
    for row, bucket, weight in folded.lengths.tolist():
        assert bucket not in lengths[row], "one bucket twice"
        lengths[row][bucket] = weight
    assert (np.diff(folded.lengths["row"].astype(np.int64)) >= 0).all()
    return {key: Row(sums, variances, own) for key, sums, variances, own in zip(
        keys, folded.sums.tolist(), folded.variances.tolist(), lengths, strict=True)}


def sums_of(fold: Fold) -> list[list[int]]:
    """Count, value_ns and runnable_ns by row; takes them."""
    return [row.sums[:3] for row in rows_of(fold).values()]


def side_of(fold: Fold) -> list[bytes]:
    """The side records of a Fold; takes them."""
    raw, out, at = fold.take_side(), [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at : at + 8], "little")
        out.append(raw[at + 8 : at + 8 + length])
        at += 8 + (length + 7) // 8 * 8
    return out
