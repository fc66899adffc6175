"""A server that answers garbage, says half, hangs or lies costs an error, some time and no memory."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hostile_server import HostileServer, read_some, read_until_closed
from hypothesis import given
from hypothesis import strategies as st
from sample_items import AGENT, entry

from excise.spool import Gap, Item
from excise_agent.config.schema import ForwardConfig, TlsConfig
from excise_agent.sinks import SinkError
from excise_agent.sinks import forward_wire as wire
from excise_agent.sinks.forward import ForwardSink, split_address

SHORT_S = 0.3
PLENTY_S = 60.0
HELO = msgpack.packb(["HELO", {"nonce": b"n" * 16, "auth": "", "keepalive": True}])


def deliver(config: ForwardConfig, items: list[Item] | None = None) -> str:
    """The error's text; it is always of the kind that is tried again."""
    sink = ForwardSink(config)
    with pytest.raises(SinkError) as error:
        sink.deliver(AGENT, items or [entry(1)])
    sink.close()
    assert error.value.kind == "retry"
    return str(error.value)


def says(answer: bytes) -> Callable[[socket.socket], None]:
    """This, once something has come; then it waits for the end."""
    def script(connection: socket.socket) -> None:
        read_some(connection)
        connection.sendall(answer)
        read_until_closed(connection)
    return script


@pytest.mark.parametrize(("answer", "error"), [
    (msgpack.packb({"ack": "another"}), "not the ack"),
    (msgpack.packb({"ack": 7}), "not the ack"),
    (msgpack.packb({}), "not the ack"),
    (msgpack.packb(None), "not the ack"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not the ack"),  # 'H' is the number 72
    (b"\xc1", "not msgpack"),
    (b"\xdb\xff\xff\xff\xff" + b"x" * 70_000, "too long"),
    (b"\xc6\xff\xff\xff\xff" + b"x" * 70_000, "too long"),
    (b"\xdd\xff\xff\xff\xff", "not msgpack"),
    (b"\xdf\xff\xff\xff\xff", "not msgpack"),
    (b"\xc9\xff\xff\xff\xff\x00", "not msgpack"),
    (b"\x91" * 60_000, "not msgpack"),
    (b"\x81\x91\x01\x02", "not msgpack"),
])
def test_garbage_in_place_of_the_ack_is_an_error(answer: bytes, error: str) -> None:
    with HostileServer(says(answer)) as server:
        assert error in deliver(ForwardConfig(address=server.address, timeout_s=PLENTY_S))


@pytest.mark.parametrize(("answer", "error"), [
    (msgpack.packb({"ack": "x"}), "no HELO"),
    (msgpack.packb(["HELO"]), "no HELO"),
    (msgpack.packb(["HELO", {"nonce": 5}]), "not as the protocol says"),
    (msgpack.packb(["HELO", {"auth": [1]}]), "not as the protocol says"),
])
def test_garbage_in_place_of_the_helo_is_an_error(key_file: Path, answer: bytes, error: str) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(answer)
        read_until_closed(connection)
    with HostileServer(script) as server:
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S)
        assert error in deliver(config)


def pong(*parts: object) -> Callable[[bytes], bytes]:
    return lambda _ping: msgpack.packb(["PONG", *parts])


def reflected(ping: bytes) -> bytes:
    """What we sent, as if it knew the key."""
    _, hostname, _, digest, _, _ = msgpack.unpackb(ping)
    return msgpack.packb(["PONG", True, "", hostname, digest])


@pytest.mark.parametrize(("answer", "error"), [
    (pong(True, "", "peer", "0" * 128), "does not know the shared key"),
    (pong(True, "", "peer", ""), "does not know the shared key"),
    (pong(True, "", "peer", "é"), "does not know the shared key"),
    (reflected, "our own hostname"),
    (pong(False, "\x1b[31mno " + "x" * 4000, "peer", ""), "refuses us"),
    (pong(1, "", "peer", ""), "refuses us"),
    (pong(True), "no PONG"),
    (pong(True, 1, 2, 3), "no PONG"),
])
def test_a_server_that_does_not_know_the_key_gets_no_event(key_file: Path, answer: Callable[[bytes], bytes],
                                                           error: str) -> None:
    rest = []

    def script(connection: socket.socket) -> None:
        connection.sendall(HELO)
        connection.sendall(answer(read_some(connection)))
        rest.append(read_until_closed(connection))
    with HostileServer(script) as server:
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S)
        told = deliver(config)
    assert error in told and len(told) < 400 and told.isprintable()
    assert rest == [b""]


def test_a_handshake_as_fluent_bit_does_it(key_file: Path) -> None:
    """As its sources have it (plugins/in_forward/fw_prot.c): nonce and salt are `str` and no text, a salt for passwords
    is there though it has no users, "keepalive" is not; all of a PING must be `str`; a wrong key just closes."""
    nonce, told = b"\xff\x00" * 8, []

    def script(connection: socket.socket) -> None:
        connection.sendall(b"\x92\xa4HELO\x82\xa5nonce\xb0" + nonce + b"\xa4auth\xb0" + b"\xfe" * 16)
        said = read_some(connection)
        assert b"correct horse" not in said
        ping = msgpack.unpackb(said)
        assert ping[0] == "PING" and len(ping) == 6 and all(isinstance(part, str) for part in ping)
        _, hostname, salt, digest, user, password = ping
        if digest != hashlib.sha512(salt.encode() + hostname.encode() + nonce + b"correct horse").hexdigest():
            return
        told.append((user, password))
        mine = hashlib.sha512(salt.encode() + b"localhost" + nonce + b"correct horse").hexdigest()
        connection.sendall(msgpack.packb(["PONG", True, "", "localhost", mine]))
        connection.sendall(msgpack.packb({"ack": msgpack.unpackb(read_some(connection))[2]["chunk"]}))
        read_until_closed(connection)

    with HostileServer(script) as server:
        sink = ForwardSink(ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S))
        sink.deliver(AGENT, [entry(1)])
        sink.close()
        key_file.write_text("wrong")
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S)
        assert "before its PONG: compare shared_key_file" in deliver(config)
    assert told == [("", "")]


def test_a_connection_that_closes_is_an_error_that_says_before_what(key_file: Path) -> None:
    with HostileServer(lambda _connection: None) as server:
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S)
        assert "before its HELO" in deliver(config) or "reset" in deliver(config)
    with HostileServer(lambda connection: connection.sendall(HELO[:9])) as server:
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=PLENTY_S)
        assert "before its HELO" in deliver(config)


def hangs(_connection: socket.socket) -> None:
    read_until_closed(_connection)


def test_a_server_that_hangs_costs_the_timeout(key_file: Path) -> None:
    with HostileServer(hangs) as server:
        config = ForwardConfig(address=server.address, timeout_s=SHORT_S)
        assert deliver(config) == "did not answer within 0.3 s"
        config = ForwardConfig(address=server.address, shared_key_file=key_file, timeout_s=SHORT_S)
        assert deliver(config) == "did not answer within 0.3 s"


def test_a_server_that_drips_bytes_costs_the_timeout_too() -> None:
    over = threading.Event()

    def script(connection: socket.socket) -> None:
        read_some(connection)
        while not over.wait(0.02):
            connection.sendall(b"\xc4")  # bin of 196 bytes, and on
    with HostileServer(script) as server:
        assert deliver(ForwardConfig(address=server.address, timeout_s=SHORT_S)).startswith("did not answer")
        over.set()


def test_a_server_that_does_not_read_costs_the_timeout() -> None:
    over = threading.Event()
    with HostileServer(lambda _connection: assert_(over.wait(PLENTY_S))) as server:
        config = ForwardConfig(address=server.address, timeout_s=SHORT_S)
        assert deliver(config, [Gap(1, 1, "x" * 20_000_000)]).startswith("did not answer")
        over.set()


def test_tls_that_hangs_in_the_handshake_costs_the_timeout(tls_files: Path) -> None:
    with HostileServer(hangs) as server:
        tls = TlsConfig(True, tls_files / "ca.pem")
        config = ForwardConfig(address=server.address, tls=tls, timeout_s=SHORT_S)
        assert deliver(config).startswith("did not answer")


def test_a_server_without_tls_is_an_error_where_tls_was_asked_for(tls_files: Path) -> None:
    with HostileServer(lambda connection: connection.sendall(HELO)) as server:
        tls = TlsConfig(True, tls_files / "ca.pem")
        assert "TLS" in deliver(ForwardConfig(address=server.address, tls=tls, timeout_s=PLENTY_S))


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert deliver(ForwardConfig(address=f"127.0.0.1:{port}", timeout_s=PLENTY_S)).endswith("Connection refused")


def test_an_address_that_leads_nowhere_does_not_keep_us_from_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with IPv6 in its name but not in its network, say."""
    def script(connection: socket.socket) -> None:
        message = msgpack.unpackb(read_some(connection))
        connection.sendall(msgpack.packb({"ack": message[2]["chunk"]}))
        read_until_closed(connection)

    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, HostileServer(script) as server:
        full = [socket.socket() for _ in range(3)]  # its queue is full: a connect gets no answer
        for one in full:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", at)
                     for at in (deaf.getsockname(), ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        sink = ForwardSink(ForwardConfig(address="two.test:24224", timeout_s=2.0))
        sink.deliver(AGENT, [entry(1)])
        sink.close()
        for one in full:
            one.close()


def test_failures_leave_no_descriptor_behind(tls_files: Path, key_file: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    tls = TlsConfig(True, tls_files / "ca.pem")
    gone = ForwardConfig(address="127.0.0.1:1", timeout_s=PLENTY_S)
    with HostileServer(says(b"\xc1" * 99)) as server:
        garbage = ForwardConfig(address=server.address, timeout_s=PLENTY_S)
        configs = [gone, garbage, replace(garbage, tls=tls), replace(garbage, shared_key_file=key_file, timeout_s=0.05)]
        sinks = [ForwardSink(config) for config in configs]
        counts = []
        for _ in range(3):
            for sink in sinks * 5:
                with pytest.raises(SinkError):
                    sink.deliver(AGENT, [entry(1)])
            server.settle()
            counts.append(descriptors())
    assert counts[1] == counts[2]


def test_a_stop_ends_a_delivery_that_hangs() -> None:
    told: list[str] = []
    connected = threading.Event()

    def script(connection: socket.socket) -> None:
        read_some(connection)
        connected.set()
        read_until_closed(connection)

    with HostileServer(script) as server:
        sink = ForwardSink(ForwardConfig(address=server.address, timeout_s=PLENTY_S))

        def run() -> None:
            try:
                sink.deliver(AGENT, [entry(1)])
            except SinkError as error:
                told.append(str(error))
        thread = threading.Thread(target=run)
        thread.start()
        assert connected.wait(PLENTY_S)
        sink.interrupt()
        thread.join(PLENTY_S)
        sink.close()
    assert told == ["was stopped"]


def test_memory_stays_small_however_much_a_server_says() -> None:
    def script(connection: socket.socket) -> None:
        read_some(connection)
        for _ in range(400):
            connection.sendall(b"\xdc\x00\x10" + b"\xc5\x0f\xff" * 1000)
        read_until_closed(connection)

    with HostileServer(script) as server:
        config = ForwardConfig(address=server.address, timeout_s=PLENTY_S)
        deliver(config)
        tracemalloc.start()
        try:
            deliver(config)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_a_server_that_was_restarted_between_two_deliveries_costs_no_error() -> None:
    """Fluent Bit closes what is idle for long."""
    def script(connection: socket.socket) -> None:
        message = msgpack.unpackb(read_some(connection))
        connection.sendall(msgpack.packb({"ack": message[2]["chunk"]}))

    with HostileServer(script) as server:
        sink = ForwardSink(ForwardConfig(address=server.address, timeout_s=PLENTY_S))
        for sequence in range(1, 6):
            sink.deliver(AGENT, [entry(sequence)])
            while sink._connection is not None and sink._connection.idle():
                pass  # until its FIN is here
        sink.close()
        assert server.connections == 5


def test_the_same_events_are_the_same_chunk() -> None:
    one, other = wire.message("t", [b"a", b"b"]), wire.message("t", [b"a", b"c"])
    assert wire.message("t", [b"a", b"b"]) == one and one[1] != other[1]


@given(st.integers(-2**70, 2**70) | st.none())
def test_any_time_makes_an_entry(wall_ns: int | None) -> None:
    time, event = msgpack.unpackb(wire.entry(wall_ns, {"a": 1}))
    seconds, ns = int.from_bytes(time.data[:4], "big"), int.from_bytes(time.data[4:], "big")
    fits = wall_ns is not None and 0 <= wall_ns < 10**9 << 32
    assert (seconds * 10**9 + ns == wall_ns) if fits else (seconds, ns) == (0, 0)
    assert time.code == 0 and event == {"a": 1}


@given(st.binary(max_size=200))
def test_any_bytes_of_a_server_are_an_answer_or_an_error(content: bytes) -> None:
    unpacker = wire.answers()
    unpacker.feed(content)
    try:
        answer = unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        return
    for read in (wire.read_helo, lambda a: wire.check_pong(a, wire.Helo(b"", b"", True), wire.Login("h", b"k"), "")):
        with pytest.raises(SinkError):
            read(answer)
    assert not wire.is_ack(answer, "chunk")


@pytest.mark.parametrize(("mode", "content", "error"), [
    (0o644, "key", "everybody may read it; chmod o-rwx"), (0o600, "", "is empty"), (0o600, "\n", "is empty"),
    (0o600, "k" * 5000, "which is no secret"), (None, "", "No such file"),
])
def test_a_key_that_is_no_secret_is_refused_at_the_start(tmp_path: Path, mode: int | None, content: str,
                                                         error: str) -> None:
    path = tmp_path / "key"
    if mode is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(ValueError, match=error) as told:
        ForwardSink(ForwardConfig(shared_key_file=path))
    assert "shared_key_file" in str(told.value) and str(path) in str(told.value)


def test_a_folder_or_a_fifo_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(ValueError, match="is not a file"):
            ForwardSink(ForwardConfig(shared_key_file=path))


def test_certificates_that_are_missing_or_open_to_all_are_refused_at_the_start(tls_files: Path, tmp_path: Path) -> None:
    key = tmp_path / "client.key"
    key.write_bytes((tls_files / "client.key").read_bytes())
    key.chmod(0o644)
    for tls, error in (
        (TlsConfig(True, tmp_path / "none.pem"), "ca_file .*No such file"),
        (TlsConfig(True, tls_files / "ca.key"), "ca_file"),
        (TlsConfig(True, tls_files / "ca.pem", tls_files / "client.pem", key), "key_file .*everybody may read it"),
        (TlsConfig(True, tls_files / "ca.pem", tls_files / "client.pem", tls_files / "server.key"), "cert_file"),
    ):
        with pytest.raises(ValueError, match=error):
            ForwardSink(ForwardConfig(tls=tls))


@pytest.mark.parametrize("address", ["", "host", ":24224", "host:", "host:0", "host:65536", "host:x", "host:²"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        split_address(address)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert split_address("[::1]:24224") == ("::1", 24224)


def assert_(true: bool) -> None:
    assert true
