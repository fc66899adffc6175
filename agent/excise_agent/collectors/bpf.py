"""Collector for the BPF ring: drains it into folded rows, and the definitions beside them into Python."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.records import (
    RAW_PY_FRAME_DTYPE,
    RAW_STACK_DTYPE,
    RAW_TASK_DTYPE,
    REC_STACK,
    STACK_KERNEL,
)
from excise.ring import AHEAD, DRAINED, FOLD_FULL, SIDE_FULL, Fold
from excise_agent.loader import Probes


@dataclass(frozen=True, slots=True)
class StackRecord:
    """A chain of frames that records call by `hash`. Python: (n, ) RAW_PY_FRAME_DTYPE; kernel: (n,) u64."""

    pid: int
    hash: int
    kernel: bool
    cut: bool
    frames: NDArray[Any]


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Something happened to a process: TASK_*."""

    event: int
    pid: int
    tid: int
    parent: int
    ts_ns: int


SideRecord = StackRecord | TaskRecord


class BpfCollector:
    """`drain` takes what is in the ring. Rows gather in `fold` until they are taken."""

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        self.fold = Fold()

    def drain(self, until_ns: int = 0) -> Iterator[SideRecord | None]:
        """Definitions and task events as they come; None asks the caller to take the folded rows, which are full.

        `until_ns`: leave the slices that are later than this in the ring.
        """
        ring = self.probes.ring
        if ring is None:
            return
        while True:
            why = self.fold.drain(ring.data, ring.producer, ring.consumer, until_ns)
            yield from self._side()
            if why in (DRAINED, AHEAD):
                return
            if why == FOLD_FULL:
                yield None
            elif why == SIDE_FULL:
                continue

    def take_counts(self) -> tuple[int, int, int]:
        """Samples, waits and unknown records since the last call."""
        samples, waits, _, unknown = (int(x) for x in self.fold.counts)
        self.fold.counts[:] = 0
        return samples, waits, unknown

    def _side(self) -> Iterator[SideRecord]:
        side = self.fold.take_side()
        at = 0
        while at < len(side):
            (length,) = struct.unpack_from("<Q", side, at)
            record = side[at + 8 : at + 8 + length]
            at += 8 + (length + 7) // 8 * 8
            if record[0] == REC_STACK:
                yield _stack(record)
            else:
                head = np.frombuffer(record, RAW_TASK_DTYPE, 1)[0]
                yield TaskRecord(
                    int(head["event"]), int(head["pid"]), int(head["tid"]), int(head["parent"]), int(head["ts_ns"])
                )


def _stack(record: bytes) -> StackRecord:
    head = np.frombuffer(record, RAW_STACK_DTYPE, 1)[0]
    kernel = int(head["kind"]) == STACK_KERNEL
    frames: NDArray[Any] = np.frombuffer(
        record, np.uint64 if kernel else RAW_PY_FRAME_DTYPE, int(head["count"]), offset=RAW_STACK_DTYPE.itemsize
    )
    return StackRecord(int(head["pid"]), int(head["hash"]), kernel, bool(head["flags"]), frames)
