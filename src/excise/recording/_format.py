"""The frames of a recording: their types and what makes one."""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import Any, Final

import msgpack

from excise.framing import (
    FRAME,
    MAX_FRAME_BYTES,
    MAX_PLAIN_BYTES,
    ZLIB,
    Damaged,
    checksum,
    frame_bytes,
    inflate,
    unpack,
)

__all__ = [
    "FRAME", "MAGIC", "MAX_FRAME_BYTES", "MAX_PLAIN_BYTES", "VERSION", "Damaged", "FrameType", "RecordingError",
    "checksum", "content", "frame",
]

MAGIC: Final = b"excise-recording "
VERSION: Final = 1


class RecordingError(Exception):
    """A recording that cannot be written or read. The text is a sentence for the user and names the file."""


class FrameType(IntEnum):
    """Append only. A reader counts and skips types that it does not know."""

    NAMES = 0
    HEADER = 1
    DEFINITIONS = 2
    BATCH = 3
    TOTALS = 4
    HOST_SAMPLE = 5
    END = 6


def frame(kind: FrameType, content: dict[str, Any]) -> bytes:
    """A whole frame. ValueError, TypeError or OverflowError: content that msgpack cannot hold."""
    plain = msgpack.packb(content, default=_plain, unicode_errors="backslashreplace")
    if len(plain) > MAX_PLAIN_BYTES:
        raise ValueError(f"{kind.name.lower()} of {len(plain)} bytes is over the limit of {MAX_PLAIN_BYTES}")
    return frame_bytes(kind, zlib.compress(plain, 6))


def content(payload: bytes) -> dict[str, Any]:
    """What `frame` was given, from its payload. Allocates at most `MAX_PLAIN_BYTES` for the bytes."""
    return unpack(inflate(payload, ZLIB))


def _plain(value: object) -> object:
    """numpy scalars as Python numbers; anything else is the caller's mistake."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"cannot record a {type(value).__name__}")
    return item()
