"""Serves /metrics on loopback: one thread, a few connections, each with a deadline.

prometheus_client's own server starts a thread for every connection and lets each keep it for ever (0.26: 300 clients
that sent half a line held 300 threads). This one is a loop over sockets that do not block, so that clients that are
slow or send garbage cost a descriptor for some seconds.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from typing import Final

from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.prometheus_answer import MOST_HEAD_BYTES, Answers
from excise_agent.sinks.prometheus_listen import listening_socket

_log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 16
PATIENCE_S: Final = 5.0  # from a connection's begin to its end
_LINGER_S: Final = 1.0  # for a client to take the answer that was sent, and hang up
_AFTER_FAILURE_S: Final = 1.0
_CHUNK_BYTES: Final = 65536
_SEND_BUFFER_BYTES: Final = 131_072  # of a client that does not read; left alone, the kernel takes megabytes
_ENDS: Final = (b"\r\n\r\n", b"\n\n")


class _Connection:
    """Reads a head, sends an answer, waits for the client to hang up."""

    def __init__(self, client: socket.socket, deadline_s: float) -> None:
        self.client = client
        self.deadline_s = deadline_s
        self.head: bytearray | None = bytearray()  # None: it was read
        self.left = memoryview(b"")  # to be sent
        self.answered = False

    def read(self) -> bytes | None:
        """The head, once it is whole or too long. ConnectionError: there will be none."""
        data = self.client.recv(_CHUNK_BYTES)
        if not data:
            raise ConnectionResetError
        if self.head is None:
            return None
        self.head += data
        ends = [at for end in _ENDS if (at := self.head.find(end)) >= 0]
        if not ends and len(self.head) <= MOST_HEAD_BYTES:
            return None
        head = bytes(self.head[: min(ends)] if ends else self.head)
        self.head = None
        return head

    def write(self) -> None:
        self.left = self.left[self.client.send(self.left[:_CHUNK_BYTES]):]
        if not self.left:
            self.client.shutdown(socket.SHUT_WR)
            self.answered = True


class MetricsServer:
    """Listens as soon as it is made (ListenError: a sentence that names the key); answers from `start` to `stop`.

    `patience_s`: how long a client may take, from connecting to the last byte of its answer.
    """

    def __init__(
        self, listen: str, metrics: Metrics, patience_s: float = PATIENCE_S, most_connections: int = MOST_CONNECTIONS
    ) -> None:
        self._socket = listening_socket(listen)
        self._metrics = metrics
        self._answers = Answers(metrics)
        self._patience_s = patience_s
        self._most = most_connections
        self._connections: dict[int, _Connection] = {}  # oldest first
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="excise-metrics", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: address and port."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float = 2.0) -> bool:
        """Closes every socket. False: an answer that is being written kept the thread beyond the deadline."""
        self._stopping.set()
        self._waker.close()
        if self._thread.ident is None:
            self._close()
            return True
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # noqa: BLE001  # the thread's top frame: the next scrape may do better
                _log.exception("/metrics failed; its connections were closed")
                for connection in list(self._connections.values()):
                    self._end(connection, "" if connection.answered else "failed")
                self._stopping.wait(_AFTER_FAILURE_S)
        self._close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if key.fileobj is self._socket:
                self._accept()
            elif isinstance(key.data, _Connection):
                self._serve(key.data)
        now = time.monotonic()
        for connection in [c for c in self._connections.values() if c.deadline_s <= now]:
            self._end(connection, "" if connection.answered else "slow")

    def _wait_s(self) -> float | None:
        deadlines = [connection.deadline_s for connection in self._connections.values()]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError as error:  # it went away, or there are no descriptors left: a loop that spins would not help
            _log.debug("a connection to /metrics was not accepted: %s", error)
            self._stopping.wait(0.01)
            return
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if len(self._connections) >= self._most:
            oldest = min(self._connections.values(), key=lambda c: (not c.answered, c.deadline_s))
            self._end(oldest, "" if oldest.answered else "crowded_out")
        connection = _Connection(client, time.monotonic() + self._patience_s)
        self._connections[client.fileno()] = connection
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _serve(self, connection: _Connection) -> None:
        if connection.client.fileno() < 0:  # ended in this turn
            return
        try:
            if connection.left:
                connection.write()
            elif (head := connection.read()) is not None:
                connection.left = memoryview(self._answers.to(head))
                connection.write()
        except BlockingIOError:
            pass
        except OSError:  # the client hung up, as it does when it has its answer
            self._end(connection, "")
            return
        if connection.answered:
            connection.deadline_s = min(connection.deadline_s, time.monotonic() + _LINGER_S)
        self._selector.modify(
            connection.client, selectors.EVENT_WRITE if connection.left else selectors.EVENT_READ, connection)

    def _end(self, connection: _Connection, reason: str) -> None:
        """`reason`: why it got no answer; "": it did, or hung up itself."""
        del self._connections[connection.client.fileno()]
        self._selector.unregister(connection.client)
        connection.client.close()
        if reason:
            self._metrics.drop_connection(reason)

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            self._end(connection, "")
        self._selector.close()
        for each in (self._socket, self._woken, self._waker):
            each.close()
