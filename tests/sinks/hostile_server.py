"""A server that does to each connection what a test says, on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

PLENTY_S = 60.0
Script = Callable[[socket.socket], None]


class HostileServer:
    """`script` gets each connection, in a thread of its own; when it returns, the connection is closed. `over` is set
    at the end: a script that hangs waits for it."""

    def __init__(self, script: Script, tls: Path | None = None) -> None:
        self._script, self._threads = script, []  # type: ignore[var-annotated]
        self.connections, self.over = 0, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self._context = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls / "server.pem", tls / "server.key")
        self._accepts = threading.Thread(target=self._accept, daemon=True)
        self._accepts.start()

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepts, *self._threads):
            thread.join(PLENTY_S)
            assert not thread.is_alive()

    def settle(self) -> None:
        """Wait until all connections so far are closed at this end too."""
        for thread in self._threads:
            thread.join(PLENTY_S)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(plain,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            connection = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            self._script(connection)
            connection.close()


def read_some(connection: socket.socket) -> bytes:
    return connection.recv(1 << 16)


def read_until_closed(connection: socket.socket) -> bytes:
    out = b""
    while content := connection.recv(1 << 16):
        out += content
    return out
