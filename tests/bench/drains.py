"""The drain of a full ring, compiled, beside the same loop in Python. Sizes are mixed as the demo server mixes them."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numbers_of import Row, median
from numpy.typing import NDArray

from excise.records import RAW_PY_FRAME_DTYPE, RAW_SLICE_DTYPE, RAW_STACK_DTYPE, REC_SAMPLE, REC_STACK, REC_WAIT
from excise.ring import Fold

RING_BYTES = 2 << 20
KINDS = ((REC_WAIT, 0.83), (REC_SAMPLE, 0.14), (REC_STACK, 0.03))  # of the records of 10 s of the demo server
FRAMES = 18  # a stack there
ROWS = 400  # different rows a second there
_HEADER = 8


def full_ring() -> tuple[NDArray[np.uint64], int, int]:
    """The data pages twice, as the kernel maps them; bytes in use; records."""
    rng = np.random.default_rng(3)
    slices = np.zeros(ROWS, RAW_SLICE_DTYPE)
    slices["tid"] = rng.integers(1000, 1020, ROWS)
    slices["pid"], slices["stack"], slices["value_ns"] = 1000, rng.integers(1, 1 << 60, ROWS), 50_000
    stack = np.zeros((), RAW_STACK_DTYPE)
    stack["type"], stack["count"] = REC_STACK, FRAMES
    definition = stack.tobytes() + bytes(FRAMES * RAW_PY_FRAME_DTYPE.itemsize)
    out, records = bytearray(), 0
    kinds = rng.choice([k for k, _ in KINDS], 40_000, p=[p for _, p in KINDS])
    for i, kind in enumerate(kinds.tolist()):
        slices["type"][i % ROWS] = kind if kind != REC_STACK else REC_WAIT
        body = definition if kind == REC_STACK else slices[i % ROWS].tobytes()
        step = _HEADER + (len(body) + 7) // 8 * 8
        if len(out) + step > RING_BYTES:
            break
        out += struct.pack("<II", len(body), 0) + body.ljust(step - _HEADER, b"\0")
        records += 1
    used = len(out)
    page = np.frombuffer(bytes(out.ljust(RING_BYTES, b"\0")), np.uint64)
    data = np.concatenate((page, page))
    data.flags.writeable = False
    return data, used, records


def rows() -> Iterator[Row]:
    data, used, records = full_ring()
    producer = np.array([used], np.uint64)
    producer.flags.writeable = False
    fold = Fold()

    def compiled() -> float:
        began = time.perf_counter()
        fold.drain(data, producer, np.zeros(1, np.uint64))
        took = time.perf_counter() - began
        fold.take_rows()
        fold.take_side()
        return took

    def plain() -> float:
        began = time.perf_counter()
        drain_plain(data.tobytes(), used)
        return time.perf_counter() - began

    times = {"numba": [], "Python": []}  # type: dict[str, list[float]]
    for _ in range(15):
        times["numba"].append(compiled())
        times["Python"].append(plain())
    mean = used / records
    for name, seconds in times.items():
        yield Row(
            f"drain and fold, {name}",
            f"{records / median(seconds) / 1e6:,.2f}",
            "million records/s",
            f"median of 15 on a full ring of {RING_BYTES >> 20} MiB, {mean:.0f} bytes a record, interleaved",
        )


def drain_plain(data: bytes, used: int) -> dict[bytes, Any]:
    """What `excise.ring.drain` does, record by record."""
    out: dict[bytes, Any] = {}
    at = 0
    while at < used:
        (length,) = struct.unpack_from("<I", data, at)
        body = data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + (length + 7) // 8 * 8
        if body[0] == REC_STACK:
            continue
        value, runnable = struct.unpack_from("<QQ", body, 32)
        row = out.setdefault(body[:24] + body[48:], [0, 0, 0])
        row[0] += 1
        row[1] += value
        row[2] += runnable
    return out
