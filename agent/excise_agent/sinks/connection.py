"""A TCP or TLS connection on which every wait ends by a deadline, and what is kept of an answer is bounded."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from excise_agent.config.schema import TlsConfig
from excise_agent.sinks.deadline import Deadline
from excise_agent.sinks.secret import check_private
from excise_agent.sinks.sink import SinkError

_T = TypeVar("_T")
_WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_STEP_BYTES = 1 << 16


def tls_context(tls: TlsConfig) -> ssl.SSLContext | None:
    """None: without TLS. ValueError: a file that it needs is not there or not good. The server's name is checked."""
    if not tls.enabled:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file {tls.ca_file}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.cert_file is not None:
        key_file = tls.key_file or tls.cert_file
        check_private(key_file, "key_file")
        try:
            context.load_cert_chain(tls.cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"cert_file {tls.cert_file}, key_file {key_file}: {_reason(error)}") from error
    return context


class Connection:
    """Of one server. Every method but `close` and `idle` waits until `until` at most and raises SinkError(retry)."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, server_name: str,
                 until: Deadline) -> None:
        self.until = until
        self._where = f"{host}:{port}"
        plain = self._connect(host, port)
        self._socket: socket.socket = plain
        if context is None:
            return
        try:
            wrapped = context.wrap_socket(plain, server_hostname=server_name or host, do_handshake_on_connect=False)
            self._socket = wrapped
            self._try(wrapped.do_handshake, "TLS")
        except BaseException:
            self.close()
            raise

    def send(self, content: bytes) -> None:
        """All of it."""
        view = memoryview(content)
        while view:
            step = view[:_STEP_BYTES]
            view = view[self._try(partial(self._socket.send, step), "send"):]

    def receive(self, most: int = _STEP_BYTES) -> bytes:
        """Some bytes; b"" when the server has closed."""
        return self._try(partial(self._socket.recv, most), "receive")

    def idle(self) -> bool:
        """Between two requests: whether it is still open, and the server has not said a thing that nobody asked for."""
        try:
            self._socket.recv(1)
        except _WAITS:
            return True
        except (OSError, ssl.SSLError):
            pass
        return False

    def reader(self) -> io.BufferedReader:
        """To read from as from a file; closing it does not close the connection."""
        return io.BufferedReader(_Raw(self), _STEP_BYTES)

    def close(self) -> None:
        self._socket.close()

    def _connect(self, host: str, port: int) -> socket.socket:
        """To the first of its addresses that answers; each has its share of the time, for the packets of one may go
        nowhere. A name is looked up by the system, in the time that it takes."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SinkError(f"{host}: {_reason(error)}", "retry") from error
        last: SinkError | None = None
        whole = self.until
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            plain = socket.socket(family, kind, protocol)
            plain.setblocking(False)
            self._socket, self.until = plain, whole.share(len(found) - tried)
            try:
                self._try(partial(_connected, plain, address), "connect")
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.until = whole
                return plain
            except SinkError as error:
                plain.close()
                last = error
        raise last or SinkError(f"{host}: has no address", "retry")

    def _try(self, step: Callable[[], _T], what: str) -> _T:
        while True:
            left_s = self.until.slice_s()
            try:
                return step()
            except (ssl.SSLWantWriteError, BlockingIOError) as wait:
                read = isinstance(wait, BlockingIOError) and what == "receive"
                self._wait(select.POLLIN if read else select.POLLOUT, left_s)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, left_s)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise SinkError(f"{self._where}: {what}: {_reason(error)}", "retry") from error

    def _wait(self, event: int, left_s: float) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll(left_s * 1e3)


class _Raw(io.RawIOBase):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._connection.receive(len(buffer))
        buffer[:len(content)] = content
        return len(content)


def _connected(plain: socket.socket, address: object) -> None:
    """BlockingIOError while it is under way."""
    code = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, "")
    code = plain.connect_ex(address)  # type: ignore[arg-type]
    if code in (errno.EINPROGRESS, errno.EALREADY):
        raise BlockingIOError
    if code not in (0, errno.EISCONN):
        raise OSError(code, "")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return str(error)
