"""The bytes on the control socket, both ways: a length and a map of msgpack. See docs/control.md."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import msgpack

from excise.framing import Damaged, unpack

PROTOCOL: Final = 1
MAX_REQUEST_BYTES: Final = 64 << 10
MAX_FRAME_BYTES: Final = 16 << 20
_LENGTH: Final = struct.Struct(">I")


def pack_frame(content: Mapping[str, object]) -> bytes:
    """TypeError or ValueError: what msgpack cannot hold, or more than MAX_FRAME_BYTES."""
    body: bytes = msgpack.packb(content, unicode_errors="backslashreplace")
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {len(body)} bytes")
    return _LENGTH.pack(len(body)) + body


class Unframer:
    """Bytes in, in whatever pieces they come; maps out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The frames that are whole now. Raises Damaged."""
        self._buffer += data
        found = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= self._limit:
                raise Damaged(f"a frame of {length} bytes: from 1 to {self._limit} are allowed")
            if len(self._buffer) < _LENGTH.size + length:
                break
            found.append(unpack(bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])))
            del self._buffer[: _LENGTH.size + length]
        return found
