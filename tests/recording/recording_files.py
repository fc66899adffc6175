"""Recordings in memory, taken apart and put together again."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from excise.batch import Batch, Definitions, Item, Totals
from excise.recording import Recording, RecordingWriter
from excise.recording._format import FRAME, MAGIC, FrameType, content, frame

FIRST_LINE = MAGIC + b"1\n"


def recorded(items: Iterable[Item]) -> bytes:
    with tempfile.TemporaryFile() as file:
        with RecordingWriter(file.fileno()) as writer:
            for item in items:
                writer.write(item)
        return os.pread(file.fileno(), 1 << 30, 0)


def reading(data: bytes) -> Recording:
    return Recording(io.BytesIO(data))


def frames_of(data: bytes) -> list[tuple[FrameType, dict[str, Any]]]:
    out, at = [], len(FIRST_LINE)
    while at < len(data):
        length, _crc, kind = FRAME.unpack_from(data, at)
        at += FRAME.size + length
        out.append((FrameType(kind), content(data[at - length:at])))
    return out


def file_of(frames: Iterable[tuple[FrameType, dict[str, Any]]]) -> bytes:
    """Checksums are right, whatever the contents are."""
    return FIRST_LINE + b"".join(frame(kind, inside) for kind, inside in frames)


def comparable(item: Item) -> object:
    """Equal for equal items: arrays do not compare to one truth value."""
    match item:
        case Batch(start, end, slices, lost, lengths):
            return ("batch", start, end, _columns(slices), lost, _columns(lengths))
        case Totals(start, end, rows):
            return ("totals", start, end, _columns(rows))
        case _:
            return item


def _columns(rows: np.ndarray) -> dict[str, list[Any]]:
    return {name: rows[name].tolist() for name in rows.dtype.names or ()}


def says_something(item: Item) -> bool:
    return item != Definitions()


def merged(items: Iterable[Item]) -> list[object]:
    """As `comparable`, with neighbouring definitions made one: a writer may split them."""
    out: list[object] = []
    for item in items:
        last = out[-1] if out else None
        if isinstance(item, Definitions) and isinstance(last, Definitions):
            out[-1] = Definitions(last.frames + item.frames, last.stacks + item.stacks,
                                  last.processes + item.processes, last.threads + item.threads)
        elif says_something(item):
            out.append(comparable(item))
    return out
