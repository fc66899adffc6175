"""All that bytes may stand for: as they are, and whatever in them is compressed or in base64, unpacked."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator

from excise.framing import FRAME, checksum

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_LIKE_A_FRAME = re.compile(rb"(?=..[\0-\x40]\0....[\0-\x1f])", re.DOTALL)  # shorter than 4 MB, of a known type
_STARTS = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")  # gzip, zlib


def layers(content: bytes, depth: int = 3) -> Iterator[bytes]:
    """The content and what is packed in it."""
    yield content
    if depth == 0:
        return
    for inner in (*_frames(content), *_streams(content), *_encoded(content)):
        yield from layers(inner, depth - 1)


def _frames(content: bytes) -> Iterator[bytes]:
    """Payloads of our own frames, wherever one may begin; deflated raw or with zlib's header."""
    for found in _LIKE_A_FRAME.finditer(content):
        at = found.start()
        length, crc, kind = FRAME.unpack_from(content, at)
        payload = content[at + FRAME.size : at + FRAME.size + length]
        if 0 < length == len(payload) and checksum(kind, payload) == crc:
            for wbits in (-15, 15):
                yield from _inflated(payload, wbits)


def _streams(content: bytes) -> Iterator[bytes]:
    for found in _STARTS.finditer(content):
        yield from _inflated(content[found.start() :], 47)


def _inflated(content: bytes, wbits: int) -> Iterator[bytes]:
    try:
        plain = zlib.decompressobj(wbits).decompress(content, 64 << 20)
    except zlib.error:
        return
    if plain:
        yield plain


def _encoded(content: bytes) -> Iterator[bytes]:
    for found in _BASE64.finditer(content):
        word = found[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        try:
            yield base64.b64decode(word + b"=" * (-len(word) % 4))
        except (ValueError, binascii.Error):
            continue


def forms(secret: str) -> list[bytes]:
    """How it would look: as text in four encodings, escaped, in hexadecimal, backwards, and in base64 at any offset."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)]
    return [raw, secret.encode("utf-16-le"), secret.encode("utf-32-le"), raw.hex().encode(), raw[::-1],
            raw.replace(b"-", b"%2D"), *shifted]


def where(content: bytes, secrets: dict[str, str]) -> set[str]:
    """Which of the secrets are in there."""
    wanted = [(name, form) for name, secret in secrets.items() for form in forms(secret)]
    return {name for layer in layers(content) for name, form in wanted if form in layer}
