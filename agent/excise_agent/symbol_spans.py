"""Which function an address of user space lies in: columns in, columns out; a function is looked up once.

Nearly every sample has an address of its own, but a program runs in a few hundred functions.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.frames import Frame
from excise_agent.native import NativeSymbols

MAX_SPANS: Final = 20_000
"""Remembered in all: 5 MB. More, and those of all processes are looked up again."""


@dataclass(slots=True)
class _Image:
    """Functions of one process, by where they begin."""

    version: int
    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    frames: dict[int, Frame] = field(default_factory=dict)
    columns: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((2, 0), np.uint64))  # lows, highs


class SymbolSpans:
    """Of many processes."""

    def __init__(self, native: NativeSymbols) -> None:
        self._native = native
        self._images: dict[int, _Image] = {}
        self._count = 0

    def starts(self, pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Where the function of each address (n,) begins; the address itself where none is known, 0 stays 0."""
        image = self._image(pid)
        out = addresses.copy()
        inside = _inside(image.columns, addresses)
        out[inside >= 0] = image.columns[0][inside[inside >= 0]]
        for i in np.flatnonzero((inside < 0) & (addresses != 0)).tolist():
            out[i] = self._learn(pid, image, int(addresses[i]))
        if image.columns.shape[1] != len(image.lows):
            image.columns = np.array((image.lows, image.highs), np.uint64)
        return out

    def frame(self, pid: int, start: int) -> Frame:
        """The frame of what `starts` gave."""
        known = self._image(pid).frames.get(start)
        return known if known is not None else self._native.resolve(pid, start)

    def forget(self, pid: int) -> None:
        """It has ended, or has another image."""
        image = self._images.pop(pid, None)
        if image is not None:
            self._count -= len(image.lows)

    def _image(self, pid: int) -> _Image:
        version = self._native.version(pid)
        image = self._images.get(pid)
        if image is None or image.version != version:
            self.forget(pid)
            image = self._images[pid] = _Image(version)
        return image

    def _learn(self, pid: int, image: _Image, address: int) -> int:
        at = bisect_left(image.lows, address + 1) - 1
        if at >= 0 and address < image.highs[at]:  # learnt a moment ago, with another address of this batch
            return image.lows[at]
        found = self._native.span(pid, address)
        if found is None:
            return address
        low, high, frame = found
        if self._count >= MAX_SPANS:
            for other in self._images.values():
                other.lows, other.highs, other.frames = [], [], {}
            self._count = 0
        place = bisect_left(image.lows, low)
        if place < len(image.lows) and image.lows[place] == low:
            return address  # two functions begin here: the second is not remembered
        image.lows.insert(place, low)
        image.highs.insert(place, high)
        image.frames[low] = frame
        self._count += 1
        return low


def _inside(columns: NDArray[np.uint64], addresses: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Index of the span that holds each address; -1: none does."""
    lows, highs = columns
    if not len(lows):
        return np.full(len(addresses), -1, np.int64)
    at = np.searchsorted(lows, addresses, side="right").astype(np.int64) - 1
    return np.where((at >= 0) & (addresses < highs[np.maximum(at, 0)]), at, -1)
