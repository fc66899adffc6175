"""Who empties a ring faster: bcc's callback and `Fold.drain` take turns on one map. Prints seconds as JSON.

A process of its own: bcc brings LLVM, which a profiler should not hold.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from excise_agent._numba_cache import pin_numba_cache

pin_numba_cache()

import numpy as np  # noqa: E402
from kernel_clock import PROG_TEST_RUN, bpf_call  # noqa: E402

from excise.records import (  # noqa: E402
    RAW_PY_FRAME_DTYPE,
    RAW_SLICE_DTYPE,
    RAW_STACK_DTYPE,
    REC_SAMPLE,
    REC_STACK,
    REC_WAIT,
    WEIGHT_ONE,
)
from excise.ring import Fold  # noqa: E402
from excise_agent import bpf  # noqa: E402
from excise_agent.loader import PAGE, Ring  # noqa: E402
from excise_agent.paths import probes_dir  # noqa: E402

RING_BYTES = 2 << 20  # the agent's
SLICES = 512  # different rows: about those of a second of the demo server
WAITS = 0.855  # of the slices; the others are samples. This and the next two: counted in 10 s of the demo server
DEFINITIONS_IN_1000 = 30
FRAMES = 18
BURST = 64


class Source:
    """The ring and what fills it."""

    def __init__(self) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(probes_dir() / "include" / "shim")
        import bcc

        numbers = {
            "RING_PAGES": RING_BYTES // PAGE,
            "SLICES": SLICES,
            "FRAMES": FRAMES,
            "BURST": BURST,
            "DEFINITIONS_IN_1000": DEFINITIONS_IN_1000,
        }
        flags = [f"-I{probes_dir() / 'include'}", *(f"-D{name}={value}" for name, value in numbers.items())]
        text = Path(__file__).with_name("ring_source.bpf.c").read_text()
        self.module = bcc.BPF(text=text, cflags=flags)
        self.program_fd: int = self.module.load_func("fill", bcc.BPF.RAW_TRACEPOINT).fd
        rng = np.random.default_rng(3)
        slices = np.zeros(SLICES, RAW_SLICE_DTYPE)
        slices["type"] = np.where(rng.random(SLICES) < WAITS, REC_WAIT, REC_SAMPLE)
        slices["tid"] = rng.integers(1000, 1020, SLICES)
        slices["pid"], slices["stack"] = 1000, rng.integers(1, 1 << 60, SLICES)
        slices["value_ns"], slices["weight"] = 50_000, WEIGHT_ONE
        head = np.zeros((), RAW_STACK_DTYPE)
        head["type"], head["count"] = REC_STACK, FRAMES
        definition = head.tobytes() + bytes(FRAMES * RAW_PY_FRAME_DTYPE.itemsize)
        for name, values in (("slices", [s.tobytes() for s in slices]), ("definitions", [definition])):
            table = self.module[name]
            known = bpf.Map(name, table.map_fd, 2, 4, len(values[0]), len(values))
            for i, value in enumerate(values):
                known.update(struct.pack("<I", i), value)
        self.ring = Ring(bpf.Map("ring", self.module["ring"].map_fd, bpf.MAP_RINGBUF, 0, 0, RING_BYTES))

    def fill(self) -> int:
        """Leaves less room than one run of the program needs. Returns the bytes in the ring."""
        attr = struct.pack("<I", self.program_fd).ljust(80, b"\0")
        most = BURST * (8 + RAW_STACK_DTYPE.itemsize + FRAMES * RAW_PY_FRAME_DTYPE.itemsize)
        while self.ring.backlog() + most < RING_BYTES:
            bpf_call(PROG_TEST_RUN, attr)
        return self.ring.backlog()


class Callback:
    """bcc's own way: a Python function a record. Its methods that take (ctx, data, size) are such functions."""

    def __init__(self) -> None:
        self.source = Source()
        self._ring = self.source.module["ring"]
        self._sums: dict[tuple[int, ...], list[int]] = {}
        self._stacks: list[bytes] = []
        self._records = 0

    def call(self, function: Callable[[Any, Any, int], None]) -> None:
        self._ring.open_ring_buffer(function)

    def drain(self) -> int:
        """Returns how many records it took."""
        self._records = 0
        self._stacks.clear()
        self.source.module.ring_buffer_consume()
        return self._records

    def fold(self, ctx: Any, data: Any, size: int) -> None:
        """The result that `Fold.drain` has: exact sums by all that tells records apart, definitions kept."""
        self._records += 1
        event = self._ring.event(data)
        if event.type == REC_STACK:
            self._stacks.append(ctypes.string_at(data, size))
            return
        key = (
            event.type,
            event.state,
            event.flags,
            event.fd_class,
            event.tid,
            event.pid,
            event.waker,
            event.syscall,
            event.port,
            event.fd,
            event.stack,
            event.kstack,
            event.ip,
        )
        row = self._sums.setdefault(key, [0, 0, 0])
        row[0] += 1
        row[1] += event.value_ns
        row[2] += event.runnable_ns

    def glance(self, ctx: Any, data: Any, size: int) -> None:
        """As bcc's examples begin: the event, and two of its fields."""
        self._records += 1
        event = self._ring.event(data)
        _ = event.tid, event.value_ns

    def nothing(self, ctx: Any, data: Any, size: int) -> None:
        """The call alone."""
        self._records += 1


def drain_compiled(source: Source, fold: Fold) -> int:
    fold.counts[:] = 0
    ring = source.ring
    fold.drain(ring.data, ring.producer, ring.consumer)
    fold.take_rows()
    fold.take_side()
    return int(fold.counts.sum())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int)
    rounds = parser.parse_args().rounds
    fold = Fold()
    folding, glancing, idle = Callback(), Callback(), Callback()
    folding.call(folding.fold)
    glancing.call(glancing.glance)
    idle.call(idle.nothing)
    ring = folding.source
    ways: dict[str, tuple[Source, Callable[[], int]]] = {
        "excise": (ring, lambda: drain_compiled(ring, fold)),
        "fold": (ring, folding.drain),
        "glance": (glancing.source, glancing.drain),
        "nothing": (idle.source, idle.drain),
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    mean_bytes = []
    for number in range(rounds + 1):
        for name, (source, way) in ways.items():
            held = source.fill()
            began = time.perf_counter_ns()
            records = way()
            took_ns = time.perf_counter_ns() - began
            if source.ring.backlog():
                raise RuntimeError(f"{name} left {source.ring.backlog()} bytes in the ring")
            if number:  # the first warms caches
                seen[name].append(records * 1e9 / took_ns)
                mean_bytes.append(held / records)
    print(json.dumps({"records_per_s": seen, "mean_bytes": sum(mean_bytes) / len(mean_bytes)}))


if __name__ == "__main__":
    main()
