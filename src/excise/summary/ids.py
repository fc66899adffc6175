"""Identities as 64 bits of a hash of the content: the same on every host, so that summaries merge without a registry.

The bytes that are hashed are part of the format (docs/wire-format.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from excise.frames import Frame

MAX_TEXT_BYTES: Final = 2048
"""Of any name; C++ symbols reach this."""


def clean(text: str, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """As a summary holds it: valid UTF-8 (odd bytes escaped), cut between characters."""
    raw = text.encode("utf-8", "backslashreplace")
    return raw[:most_bytes].decode("utf-8", "ignore")


def process_id(boot_id: str, pid: int, start_ns: int) -> int:
    return _hash(b"P", boot_id, pid, start_ns)


def frame_id(frame: Frame) -> int:
    return _hash(b"F", frame.kind, frame.file, frame.name, frame.line)


def stack_id(frames: Sequence[int]) -> int:
    """Of the ids of its frames, leaf first."""
    return _hash(b"K", *frames)


def capabilities_id(names: Iterable[str]) -> int:
    """Of the set: order and repeats do not matter."""
    return _hash(b"C", *sorted(set(names)))


def source_id(boot_id: str, version: str, capabilities: int, collector: str, rate_millihz: int) -> int:
    return _hash(b"S", boot_id, version, capabilities, collector, rate_millihz)


def _hash(kind: bytes, *fields: str | int) -> int:
    digest = blake2b(kind, digest_size=8)
    for field in fields:
        if isinstance(field, str):
            raw = field.encode()
            digest.update(b"t" + len(raw).to_bytes(8, "little") + raw)
        else:
            digest.update(b"i" + field.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")
