"""Between a client and a server: passes on what the client says, and loses the server's first answers."""

from __future__ import annotations

import select
import socket
from typing import Any

from hostile_server import HostileServer


class LossyProxy(HostileServer):
    def __init__(self, port: int, lost_answers: int) -> None:
        self._lost = lost_answers
        self._target = port
        super().__init__(self._pass_on)

    def __enter__(self) -> LossyProxy:
        return self

    def _pass_on(self, client: socket.socket) -> None:
        """One message and its answer at a time. An answer is lost with the connection."""
        server = socket.create_connection(("127.0.0.1", self._target))
        ends: dict[Any, socket.socket] = {client: server, server: client}
        with server:
            while True:
                for end in _readable(list(ends)):
                    content = end.recv(1 << 16)
                    if not content:
                        return
                    if end is server and self._lost:
                        self._lost -= 1
                        return
                    ends[end].sendall(content)


def _readable(ends: list[socket.socket]) -> list[socket.socket]:
    return select.select(ends, [], [], 60.0)[0]
