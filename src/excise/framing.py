"""The frame that recordings and summaries share: bytes around a payload, their checksum and their limits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

import msgpack

FRAME: Final = struct.Struct("<IIB")
"""Length of the payload, crc32 over type and payload, type."""

MAX_PLAIN_BYTES: Final = 4 << 20
"""Largest payload, uncompressed. A second of a busy server is 20 KB. Keeps low what a hostile file can
allocate: msgpack turns a byte into a Python object of up to 64."""

MAX_FRAME_BYTES: Final = MAX_PLAIN_BYTES + (64 << 10)  # zlib adds 5 bytes per 16 KiB that it cannot compress

ZLIB: Final = 15
RAW_DEFLATE: Final = -15
"""How a payload is compressed: zlib's `wbits`."""


class Damaged(Exception):  # noqa: N818 - a reader adds the file and the place, and makes it its own error
    """A frame does not hold what it should."""


def checksum(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(bytes((kind,))))


def frame_bytes(kind: int, payload: bytes) -> bytes:
    return FRAME.pack(len(payload), checksum(kind, payload), kind) + payload


def inflate(payload: bytes, wbits: int) -> bytes:
    """At most `MAX_PLAIN_BYTES`. Raises Damaged."""
    stream = zlib.decompressobj(wbits)
    try:
        plain = stream.decompress(payload, MAX_PLAIN_BYTES)
    except zlib.error as error:
        raise Damaged("its compression is broken") from error
    if stream.unconsumed_tail:
        raise Damaged(f"it unpacks to more than {MAX_PLAIN_BYTES} bytes")
    if not stream.eof or stream.unused_data:
        raise Damaged("its compression is broken")
    return plain


def unpack(plain: bytes, pairs: Callable[[list[tuple[Any, Any]]], Any] | None = None) -> dict[Any, Any]:
    """A msgpack map. `pairs` builds each map from its pairs and may raise Damaged; keys are strings without it."""
    try:
        content = msgpack.unpackb(plain, raw=False, strict_map_key=pairs is None, object_pairs_hook=pairs,
                                  ext_hook=_no_extension)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise Damaged("its content is broken") from error
    if not isinstance(content, dict):
        raise Damaged("its content is not a map")
    return content


def _no_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")
