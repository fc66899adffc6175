"""Histograms of lengths: base 2, 2^scale buckets an octave. Any two add up exactly, whatever was in them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SCALE: Final = 4
"""16 buckets an octave: a bucket's end is 4.4 % above its start."""

MAX_SCALE: Final = 8
MAX_OCTAVES: Final = 128  # so that a length is at most 2^128 ns
LOWEST_BUCKET: Final = -1  # of 1 ns, at every scale


def _ends(scale: int) -> tuple[int, ...]:
    """floor(2^(63 + k / 2^scale)) for k = 0 .. 2^scale - 1, exactly: by integer square roots."""
    out = []
    for k in range(1 << scale):
        value = 1 << (k + (63 << scale))
        for _ in range(scale):
            value = math.isqrt(value)
        out.append(value)
    return tuple(out)


ENDS: Final = _ends(SCALE)
"""Where the buckets of the octave that begins at 2^63 end, at `SCALE`. A value belongs to bucket
`16 * e + k - 1`, e = floor(log2 value), k = how many ENDS are below `value << (63 - e)`."""


def bucket_of(length_ns: int) -> int:
    """The bucket at `SCALE`, i of (2^(i/16), 2^((i+1)/16)] ns, of a length under 2^64; what is below 1 counts as 1."""
    value = max(length_ns, 1)
    e = value.bit_length() - 1
    return 16 * e + bisect_left(ENDS, value << (63 - e)) - 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """`buckets`: i -> count of lengths in (2^(i / 2^scale), 2^((i+1) / 2^scale)] ns; none is zero."""

    scale: int
    buckets: Mapping[int, int]

    @classmethod
    def of(cls, lengths_ns: Iterable[int]) -> Histogram:
        buckets: dict[int, int] = {}
        for length in lengths_ns:
            bucket = bucket_of(length)
            buckets[bucket] = buckets.get(bucket, 0) + 1
        return cls(SCALE, buckets)

    @classmethod
    def of_counts(cls, counts: Iterable[int], first_bucket: int = LOWEST_BUCKET, scale: int = SCALE) -> Histogram:
        """From a dense row of counts, the first of which is `first_bucket`'s."""
        return cls(scale, {first_bucket + i: int(count) for i, count in enumerate(counts) if count})

    def count(self) -> int:
        return sum(self.buckets.values())

    def lowered(self, scale: int) -> Histogram:
        """The same at a smaller scale: 2^(difference) neighbours become one, exactly."""
        shift = self.scale - scale
        if shift <= 0:
            return self
        out: dict[int, int] = {}
        for bucket, count in self.buckets.items():
            out[bucket >> shift] = out.get(bucket >> shift, 0) + count
        return Histogram(scale, out)

    def plus(self, other: Histogram) -> Histogram:
        """Both, at the smaller scale of the two."""
        scale = min(self.scale, other.scale)
        out = dict(self.lowered(scale).buckets)
        for bucket, count in other.lowered(scale).buckets.items():
            out[bucket] = out.get(bucket, 0) + count
        return Histogram(scale, out)

    def quantile_ns(self, q: float) -> float | None:
        """The end of the bucket that the q-quantile lies in; None without any length."""
        left = math.ceil(q * self.count())
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return float(2.0 ** ((bucket + 1) / (1 << self.scale)))
        return None
