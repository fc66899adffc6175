"""Histograms of waits in the few buckets that Prometheus gets."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.summary import Histogram
from excise.summary.histogram import LOWEST_BUCKET, MAX_OCTAVES

FIRST_OCTAVE: Final = 14  # 2^14 ns = 16 µs
LAST_OCTAVE: Final = 34  # 17 s
OCTAVES: Final = 2  # a bucket's: a factor of 4
LIMITS_NS: Final = tuple(2**octave for octave in range(FIRST_OCTAVE, LAST_OCTAVE + 1, OCTAVES))
"""A wait is in the first whose limit it is not above. A summary's buckets end at every power of two, at any scale."""

LIMITS: Final = (*(repr(ns / 1e9) for ns in LIMITS_NS), "+Inf")


Floats = NDArray[np.float64]


@functools.cache
def _places(scale: int) -> tuple[NDArray[np.int64], Floats]:
    """Of every bucket that a summary may have, from LOWEST_BUCKET: its index in LIMITS, its middle in ns."""
    bucket = np.arange(LOWEST_BUCKET, MAX_OCTAVES << scale)
    octave = -(-(bucket + 1) >> scale)  # the least whose power of two is not below the bucket's end
    index = np.clip(-(-(octave - FIRST_OCTAVE) // OCTAVES), 0, len(LIMITS_NS))
    per_octave = float(1 << scale)
    return index, (2.0 ** (bucket / per_octave) + 2.0 ** ((bucket + 1) / per_octave)) / 2


class Waits:
    """Counts by limit, not yet added up over the limits; the sum is that of the buckets' middles."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(LIMITS), np.int64)
        self.sum_ns = 0.0

    def add(self, scale: int, histograms: Sequence[Histogram]) -> None:
        """Histograms of one scale, all at once: a busy window has 20 000 buckets."""
        size = sum(len(histogram.buckets) for histogram in histograms)
        buckets = np.fromiter(chain.from_iterable(h.buckets for h in histograms), np.int64, size) - LOWEST_BUCKET
        counts = np.fromiter(chain.from_iterable(h.buckets.values() for h in histograms), np.int64, size)
        index, middle_ns = _places(scale)
        np.add.at(self._counts, index[buckets], counts)
        self.sum_ns += float(middle_ns[buckets] @ counts)

    def buckets(self) -> list[tuple[str, float]]:
        """(limit in seconds, how many were not above it)."""
        return list(zip(LIMITS, self._counts.cumsum().astype(float).tolist(), strict=True))
