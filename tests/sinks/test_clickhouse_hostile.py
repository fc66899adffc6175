"""What answers over HTTP may be no ClickHouse, or one in trouble: what is an error, and of which kind."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates import SERVER
from hostile_server import HostileServer, read_some, read_until_closed
from sample_items import AGENT, entry

from excise_agent.config.schema import ClickHouseConfig
from excise_agent.sinks import SinkError
from excise_agent.sinks.clickhouse import ClickHouseSink

SHORT_S, PLENTY_S = 0.3, 60.0
OK = b"HTTP/1.1 200 OK\r\nX-ClickHouse-Query-Id: 1\r\nContent-Length: 0\r\n\r\n"


def answer(status: str, body: bytes, headers: bytes = b"X-ClickHouse-Server-Display-Name: x\r\n") -> bytes:
    return b"HTTP/1.1 " + status.encode() + b"\r\n" + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def says(content: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        read_some(connection)
        connection.sendall(content)
    return script


def failure(script: Callable[[socket.socket], None], timeout_s: float = PLENTY_S) -> SinkError:
    with HostileServer(script) as server:
        sink = ClickHouseSink(ClickHouseConfig(url=f"http://{server.address}", timeout_s=timeout_s))
        with pytest.raises(SinkError) as error:
            sink.deliver(AGENT, [entry(1)])
        sink.close()
        return error.value


@pytest.mark.parametrize(("content", "kind", "text"), [
    (answer("400 Bad Request", b"Code: 27. DB::Exception: Cannot parse input"), "rejected", "Cannot parse"),
    (answer("500 Internal Server Error", b"Code: 27, e.displayText() = Cannot parse"), "rejected", "Cannot parse"),
    (answer("413 Payload Too Large", b""), "rejected", "413"),
    (answer("200 OK", b"Code: 27. DB::Exception: said too late"), "rejected", "said too late"),
    (answer("500 Internal Server Error", b"Code: 243. DB::Exception: not enough space"), "retry", "not enough space"),
    (answer("404 Not Found", b"Code: 60. DB::Exception: Table does not exist"), "retry", "does not exist"),
    (answer("401 Unauthorized", b"Code: 516. DB::Exception: Authentication failed"), "retry", "Authentication failed"),
    (answer("429 Too Many Requests", b""), "retry", "429"),
    (answer("503 Service Unavailable", b"<html>"), "retry", "503"),
    (answer("301 Moved Permanently", b"", b"Location: http://elsewhere/\r\n"), "retry", "301"),
    (answer("200 OK", b"<html>Sign in to the hotel's network</html>", b""), "retry", "not an answer of ClickHouse"),
    (answer("200 OK", b"", b""), "retry", "not an answer of ClickHouse"),
    (answer("200 OK", b"\x1b[2J" + b"y" * 900_000), "retry", "not an answer of ClickHouse"),
    (b"\x00\xff" * 4000 + b"\r\n", "retry", "not HTTP"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "retry", "not HTTP"),
    (b"HTTP/1.1 abc\r\n\r\n", "retry", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "retry", "not HTTP"),
    (b"HTTP/1.1 200 " + b"x" * 100_000 + b"\r\n\r\n", "retry", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "retry", "not HTTP"),
    (b"HTTP/1.1 200 OK\r\nX-ClickHouse-A: b\r\nContent-Length: 10\r\n\r\nshort", "retry", ""),
    (b"HTTP/1.1 200 OK\r\nX-ClickHouse-A: b\r\nContent-Length: 10\r\n\r\n", "retry", ""),
    (b"HTTP/1.1 200 OK\r\nX-ClickHouse-A: b\r\nTransfer-Encoding: chunked\r\n\r\n", "retry", "not HTTP"),
    (b"", "retry", "not HTTP"),
])
def test_an_answer_is_an_error_of_the_right_kind(content: bytes, kind: str, text: str) -> None:
    error = failure(says(content))
    assert error.kind == kind and text in str(error)
    assert len(str(error)) < 500 and str(error).isprintable()


def test_a_server_that_hangs_or_drips_costs_the_timeout() -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        read_some(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.02):
            connection.sendall(b"X: y\r\n")
    for script in (read_until_closed, drip):
        assert "did not answer within 0.3 s" in str(failure(lambda c, script=script: script(c), SHORT_S))  # type: ignore[misc]
    over.set()


def test_memory_stays_small_however_much_a_server_says() -> None:
    def flood(connection: socket.socket) -> None:
        read_some(connection)
        connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 9000000000\r\n\r\n")
        while True:
            connection.sendall(b"x" * 100_000)
    tracemalloc.start()
    try:
        failure(flood)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_sent(tmp_path: Path) -> None:
    """Rows as JSON in gzip; the password in a header and not in the URL, which servers log."""
    requests: list[bytes] = []

    def script(connection: socket.socket) -> None:
        while content := read_some(connection):
            while int(content.split(b"Content-Length: ")[1].split(b"\r\n")[0]) > len(content.split(b"\r\n\r\n", 1)[1]):
                content += read_some(connection)
            requests.append(content)
            connection.sendall(OK)

    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    with HostileServer(script) as server:
        sink = ClickHouseSink(ClickHouseConfig(url=f"http://{server.address}", database="a&b", user="u",
                                               password_file=password, timeout_s=PLENTY_S))
        sink.deliver(AGENT, [entry(1), entry(2)])
        sink.close()
        assert server.connections == 1, "it is used again"
    tables = []
    for request in requests:
        head, body = request.split(b"\r\n\r\n", 1)
        line, *headers = head.decode().split("\r\n")
        asked = parse_qs(urlsplit(line.split()[1]).query)
        assert asked["database"] == ["a&b"] and "s3cret" not in line
        assert {"X-ClickHouse-User: u", "X-ClickHouse-Key: s3cret", "Content-Encoding: gzip"} <= set(headers)
        tables += [(asked["query"][0], [json.loads(row)["sequence"] for row in gzip.decompress(body).splitlines()])]
    assert tables == [("INSERT INTO stages FORMAT JSONEachRow", [1, 1, 1, 2, 2, 2]),
                      ("INSERT INTO windows FORMAT JSONEachRow", [1, 2])]


def test_https_checks_name_and_authority(tls_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(connection: socket.socket) -> None:
        while read_some(connection):
            connection.sendall(OK)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if host == SERVER else host,
                                                                           *a, **k))
    with HostileServer(script, tls=tls_files) as server:
        for host, ca, error in ((SERVER, "ca.pem", ""), ("127.0.0.1", "ca.pem", "IP address mismatch"),
                                (SERVER, "stranger.pem", "local issuer")):
            sink = ClickHouseSink(ClickHouseConfig(url=f"https://{host}:{server.port}", ca_file=tls_files / ca,
                                                   timeout_s=PLENTY_S))
            if error:
                with pytest.raises(SinkError, match=error):
                    sink.deliver(AGENT, [entry(1)])
            else:
                sink.deliver(AGENT, [entry(1)])
            sink.close()


@pytest.mark.parametrize(("url", "error"), [
    ("localhost:8123", "is not http://HOST:PORT"), ("ftp://x", "is not http://HOST:PORT"),
    ("http://", "is not http://HOST:PORT"), ("http://user:pw@x:8123", "set user and password_file"),
    ("http://x:99999", "Port out of range"), ("http://x:8123/db", "has a path"), ("http://x:8123/?a=b", "has a path"),
])
def test_a_url_that_cannot_work_is_refused_and_no_password_repeated(url: str, error: str) -> None:
    with pytest.raises(ValueError, match=error) as told:
        ClickHouseSink(ClickHouseConfig(url=url))
    assert "pw" not in str(told.value)


def test_a_password_that_http_cannot_carry_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"a\r\nX-Evil: b\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="printable ASCII"):
        ClickHouseSink(ClickHouseConfig(password_file=path))
