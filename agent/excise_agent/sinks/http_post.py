"""One HTTP request at a time over a `Connection`: http.client cannot keep a deadline over all of an answer."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from excise_agent.sinks.connection import Connection
from excise_agent.sinks.sink import SinkError

MOST_BODY_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # MOST_BODY_BYTES at most
    complete: bool
    reusable: bool  # whether the connection may carry another request


class _Source:
    """What http.client takes for a socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def makefile(self, _mode: str) -> object:
        return self._connection.reader()


def post(connection: Connection, host: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """`host`: of the Host header. ValueError: a line break in the target or in a header. SinkError(retry)."""
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}",
             *(f"{name}: {value}" for name, value in headers.items())]
    if any(not line.isprintable() or not line.isascii() for line in lines):
        raise ValueError("a header has a character that it must not have")
    connection.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    response = http.client.HTTPResponse(cast("http.client.socket.socket", _Source(connection)), method="POST")  # type: ignore[name-defined]
    try:
        response.begin()
        content = response.read(MOST_BODY_BYTES)
        ended = response.isclosed()
    except (http.client.HTTPException, ValueError, OSError) as error:
        raise SinkError(f"its answer is not HTTP: {type(error).__name__} {error}"[:200].strip(), "retry") from error
    told = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, told, content, ended and not response.length, ended and not response.will_close)
