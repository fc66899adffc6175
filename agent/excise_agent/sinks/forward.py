"""Fluent Forward v1: the protocol of Fluent Bit, Fluentd and Vector, with acknowledgements, shared key and TLS."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import msgpack

from excise.spool import Item
from excise_agent.config.schema import ForwardConfig
from excise_agent.sinks import forward_wire as wire
from excise_agent.sinks.connection import Connection, tls_context
from excise_agent.sinks.deadline import Deadline
from excise_agent.sinks.event import event_of
from excise_agent.sinks.secret import read_secret
from excise_agent.sinks.sink import AgentInfo, SinkError

CHUNK_BYTES: Final = 1 << 20  # Fluent Bit takes 6 MB at most, by default
_UNREADABLE = (ValueError, msgpack.UnpackException)


class ForwardSink:
    """ValueError for a configuration that cannot work: a secret's file, a certificate, an address."""

    pause_s = 0.0

    def __init__(self, config: ForwardConfig) -> None:
        self.name = config.name
        self._config = config
        self._host, self._port = split_address(config.address)
        self._context = tls_context(config.tls)
        self._key = read_secret(config.shared_key_file, "shared_key_file") if config.shared_key_file else None
        self._password = read_secret(config.password_file, "password_file") if config.password_file else b""
        if config.user and self._key is None:
            raise ValueError("user: the protocol asks for a user only together with a shared key; set shared_key_file")
        self._interrupted = threading.Event()
        self._connection: Connection | None = None
        self._answers = wire.answers()

    def deliver(self, agent: AgentInfo, items: Sequence[Item]) -> None:
        chunks = list(_chunks(agent, items))
        until = Deadline(self._config.timeout_s, self._interrupted)
        try:
            connection, keepalive = self._connected(agent, until)
            for chunk in chunks:
                self._send(connection, chunk)
        except BaseException:
            self.close()
            raise
        if not keepalive:
            self.close()

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, agent: AgentInfo, until: Deadline) -> tuple[Connection, bool]:
        """The connection, and whether the server lets it be used again."""
        if self._connection is not None and self._connection.idle():
            self._connection.until = until
            return self._connection, True
        self.close()
        tls = self._config.tls
        connection = Connection(self._host, self._port, self._context, tls.server_name, until)
        self._connection, self._answers = connection, wire.answers()
        return connection, self._log_in(connection, agent, self._key) if self._key is not None else True

    def _log_in(self, connection: Connection, agent: AgentInfo, key: bytes) -> bool:
        # The agent's id and not the host's name: a server on this host has that, and could send our digest back.
        login = wire.Login(f"excise-{agent.agent}", key, self._config.user, self._password)
        helo = wire.read_helo(self._answer(connection, "HELO; has it a shared key?"))
        salt = secrets.token_hex(16)
        connection.send(wire.ping(helo, login, salt))
        wire.check_pong(self._answer(connection, "PONG: compare shared_key_file"), helo, login, salt)
        return helo.keepalive

    def _send(self, connection: Connection, entries: Sequence[bytes]) -> None:
        """And wait until the server says that it has them."""
        message, chunk = wire.message(self._config.tag, entries)
        connection.send(message)
        answer = self._answer(connection, "ack")
        if isinstance(answer, list) and answer[:1] == [b"HELO"]:
            raise SinkError("the server asks for a shared key: set shared_key_file", "retry")
        if not wire.is_ack(answer, chunk):
            raise SinkError("its answer is not the ack of what was sent", "retry")

    def _answer(self, connection: Connection, what: str) -> object:
        while True:
            try:
                return self._answers.unpack()
            except msgpack.OutOfData:
                pass
            except _UNREADABLE as error:
                raise SinkError(f"its answer is not msgpack: {error}", "retry") from error
            content = connection.receive(1 << 12)
            if not content:
                raise SinkError(f"closed the connection before its {what}", "retry")
            try:
                self._answers.feed(content)
            except _UNREADABLE as error:  # BufferFull
                raise SinkError("its answer is too long", "retry") from error


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT or [HOST]:PORT. ValueError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"address {address!r}: is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _chunks(agent: AgentInfo, items: Sequence[Item]) -> Iterator[list[bytes]]:
    """Entries, so many that they take CHUNK_BYTES, or one that takes more. SinkError(rejected)."""
    held: list[bytes] = []
    size = 0
    for item in items:
        try:
            event = event_of(agent, item)
            end = event.get("end_ns")
            entry = wire.entry(end if isinstance(end, int) else None, event)
        except (ValueError, UnicodeError) as error:
            raise SinkError(f"cannot be sent: {error}", "rejected") from error
        if held and size + len(entry) > CHUNK_BYTES:
            yield held
            held, size = [], 0
        held.append(entry)
        size += len(entry)
    if held:
        yield held
