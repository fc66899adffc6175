"""Fluent Forward v1, its messages: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1

Pure: bytes in, bytes out. Every string that a server sends is read as bytes: some servers' nonces are `str`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from excise_agent.sinks.sink import SinkError

MOST_ANSWER_BYTES: Final = 1 << 16  # of a server; a HELO has 100
_EVENT_TIME: Final = 0  # extension type


@dataclass(frozen=True, slots=True)
class Helo:
    nonce: bytes
    auth: bytes  # salt for the password; empty: no user is asked for
    keepalive: bool


@dataclass(frozen=True, slots=True)
class Login:
    """What a client knows. `hostname` is its own, by which the handshake tells the two sides apart."""

    hostname: str
    shared_key: bytes
    user: str = ""
    password: bytes = b""


def entry(wall_ns: int | None, event: Mapping[str, object]) -> bytes:
    """An entry of PackedForward: [EventTime, event]. A time that does not fit (before 1970, after 2106) becomes 0."""
    seconds, ns = divmod(wall_ns or 0, 10**9)
    if not 0 <= seconds < 1 << 32:
        seconds, ns = 0, 0
    time = msgpack.ExtType(_EVENT_TIME, seconds.to_bytes(4, "big") + ns.to_bytes(4, "big"))
    try:
        packed: bytes = msgpack.packb([time, event])
    except (ValueError, OverflowError, UnicodeError) as error:
        raise ValueError(f"does not fit msgpack: {error}") from error
    return packed


def message(tag: str, entries: Sequence[bytes]) -> tuple[bytes, str]:
    """PackedForward and its chunk id. The id is made of the content: sent again, it is the same chunk.

    Not compressed: a summary is deflated already.
    """
    body = b"".join(entries)
    chunk = base64.b64encode(hashlib.blake2b(body, digest_size=16).digest()).decode()
    packed: bytes = msgpack.packb([tag, body, {"size": len(entries), "chunk": chunk}])
    return packed, chunk


def answers() -> msgpack.Unpacker:
    """What a server sends, as it comes: bounded, however long it says that a string is."""
    return msgpack.Unpacker(raw=True, strict_map_key=True, max_buffer_size=MOST_ANSWER_BYTES,
                            max_str_len=4096, max_bin_len=4096, max_array_len=16, max_map_len=16, max_ext_len=64)


def read_helo(answer: object) -> Helo:
    if not (isinstance(answer, list) and len(answer) == 2 and answer[0] == b"HELO" and isinstance(answer[1], dict)):
        raise SinkError("its first answer is no HELO: is this a Fluent Forward server?", "retry")
    options = answer[1]
    nonce, auth, keepalive = options.get(b"nonce", b""), options.get(b"auth", b""), options.get(b"keepalive", True)
    if not (isinstance(nonce, bytes) and isinstance(auth, bytes) and isinstance(keepalive, bool)):
        raise SinkError("its HELO is not as the protocol says", "retry")
    return Helo(nonce, auth, keepalive)


def ping(helo: Helo, login: Login, salt: str) -> bytes:
    """`salt`: new for each connection; text, for Fluent Bit takes nothing else."""
    asked = bool(helo.auth and login.user)  # Fluent Bit asks always, also where it has no users
    password = _hex(helo.auth, login.user.encode(), login.password) if asked else ""
    packed: bytes = msgpack.packb(["PING", login.hostname, salt, _key(salt, login.hostname.encode(), helo, login),
                                   login.user if asked else "", password])
    return packed


def check_pong(answer: object, helo: Helo, login: Login, salt: str) -> None:
    """SinkError unless the server took us, and knows the key itself."""
    if not (isinstance(answer, list) and len(answer) == 5 and answer[0] == b"PONG"
            and all(isinstance(part, bytes) for part in answer[2:])):
        raise SinkError("its second answer is no PONG", "retry")
    _, taken, reason, server, digest = answer
    if taken is not True:
        told = reason[:200].decode("ascii", "replace")
        raise SinkError(f"the server refuses us ({told!r}): compare shared_key_file, user and password_file", "retry")
    if server == login.hostname.encode():
        raise SinkError("the server has our own hostname: it may only have sent back what we sent", "retry")
    if not hmac.compare_digest(digest, _key(salt, server, helo, login).encode()):
        raise SinkError("the server does not know the shared key: compare shared_key_file", "retry")


def is_ack(answer: object, chunk: str) -> bool:
    return isinstance(answer, dict) and answer.get(b"ack") == chunk.encode()


def _key(salt: str, hostname: bytes, helo: Helo, login: Login) -> str:
    return _hex(salt.encode(), hostname, helo.nonce, login.shared_key)


def _hex(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()
