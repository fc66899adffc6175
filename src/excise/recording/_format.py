"""The frame: bytes around a payload, their checksum and their limits."""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Any, Final

import msgpack

MAGIC: Final = b"excise-recording "
VERSION: Final = 1

FRAME: Final = struct.Struct("<IIB")
"""Length of the payload, crc32 over type and payload, type."""

MAX_PLAIN_BYTES: Final = 4 << 20
"""Largest payload, uncompressed. A second of a busy server is 20 KB. Keeps low what a hostile file can
allocate: msgpack turns a byte into a Python object of up to 64."""

MAX_FRAME_BYTES: Final = MAX_PLAIN_BYTES + (64 << 10)  # zlib adds 5 bytes per 16 KiB that it cannot compress


class RecordingError(Exception):
    """A recording that cannot be written or read. The text is a sentence for the user and names the file."""


class Damaged(Exception):  # noqa: N818 - never leaves this package
    """A frame does not hold what it should. The reader adds the file and the place."""


class FrameType(IntEnum):
    """Append only. A reader counts and skips types that it does not know."""

    NAMES = 0
    HEADER = 1
    DEFINITIONS = 2
    BATCH = 3
    TOTALS = 4
    HOST_SAMPLE = 5
    END = 6
    COST = 7


def checksum(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(bytes((kind,))))


def frame(kind: FrameType, content: dict[str, Any]) -> bytes:
    """A whole frame. ValueError, TypeError or OverflowError: content that msgpack cannot hold."""
    plain = msgpack.packb(content, default=_plain, unicode_errors="backslashreplace")
    if len(plain) > MAX_PLAIN_BYTES:
        raise ValueError(f"{kind.name.lower()} of {len(plain)} bytes is over the limit of {MAX_PLAIN_BYTES}")
    payload = zlib.compress(plain, 6)
    return FRAME.pack(len(payload), checksum(kind, payload), kind) + payload


def content(payload: bytes) -> dict[str, Any]:
    """What `frame` was given, from its payload. Allocates at most `MAX_PLAIN_BYTES` for the bytes."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(payload, MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise Damaged("its compression is broken") from error
    if inflate.unconsumed_tail:
        raise Damaged(f"it unpacks to more than {MAX_PLAIN_BYTES} bytes")
    if not inflate.eof or inflate.unused_data:
        raise Damaged("its compression is broken")
    try:
        unpacked = msgpack.unpackb(plain, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise Damaged("its content is broken") from error
    if not isinstance(unpacked, dict):
        raise Damaged("its content is not a map")
    return unpacked


def _plain(value: object) -> object:
    """numpy scalars as Python numbers; anything else is the caller's mistake."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"cannot record a {type(value).__name__}")
    return item()


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")
