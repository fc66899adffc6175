"""The endpoint: loopback only, and no client can harm it."""

import gc
import gzip
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from prometheus_feed import STATUS, VLLM, typical, value

from excise.workload import Workload
from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.prometheus_answer import FRESH_S
from excise_agent.sinks.prometheus_listen import ListenError, parse_listen
from excise_agent.sinks.prometheus_server import MetricsServer
from excise_agent.sinks.prometheus_status import AgentStatus

DEADLINE_S = 30.0
SCRAPE = {"Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "Accept-Encoding": "gzip"}


def metrics_of_one() -> Metrics:
    metrics = Metrics(lambda: STATUS)
    metrics.take(VLLM, typical(1)[0])
    return metrics


@contextmanager
def serving(metrics: Metrics, **options: Any) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", metrics, **options)
    server.start()
    try:
        yield server
    finally:
        assert server.stop(DEADLINE_S)


def get(server: MetricsServer, path: str = "/metrics", method: str = "GET",
        headers: dict[str, str] | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=DEADLINE_S)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def send(server: MetricsServer, data: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    with socket.create_connection(server.address, DEADLINE_S) as client:
        client.sendall(data)
        out = b""
        while got := client.recv(65536):
            out += got
        return out


def wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def dropped(metrics: Metrics, reason: str) -> float:
    return value(metrics, "excise_endpoint_dropped_connections_total", reason=reason) or 0


def test_a_scrape_gets_openmetrics_gzipped_and_a_person_gets_text() -> None:
    metrics = metrics_of_one()
    with serving(metrics) as server:
        response, body = get(server, headers=SCRAPE)
        assert response.status == 200 and response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        strict = list(text_string_to_metric_families(gzip.decompress(body).decode()))
        response, body = get(server)
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "Content-Encoding" not in response.headers
        assert len(list(text_families(body.decode()))) == len(strict)


def test_other_paths_and_methods_get_a_sentence() -> None:
    with serving(metrics_of_one()) as server:
        response, body = get(server, "/")
        assert response.status == 200 and b"/metrics" in body and len(body) < 200
        assert get(server, "/metrics/../etc/passwd")[0].status == 404
        assert get(server, method="POST")[0].status == 405
        response, body = get(server, method="HEAD")
        assert response.status == 200 and body == b"" and int(response.headers["Content-Length"]) > 10_000


@pytest.mark.parametrize("accept", [
    "text/plain; version=x", "application/openmetrics-text; version=1.y", "text/plain;version=1.0.0;escaping=zzz",
    "application/openmetrics-text;version=9.9.9;escaping=allow-utf-8", ";;;,,,=", "\xff\xfe",
    "text/plain;version=" + "1." * 500])
def test_any_accept_header_is_answered(accept: str) -> None:
    with serving(metrics_of_one()) as server:
        assert send(server, f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode("latin-1")).startswith(
            b"HTTP/1.1 200 OK\r\n")
        assert get(server)[0].status == 200


@pytest.mark.parametrize("garbage, status", [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n", 400),  # TLS
    (b"\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"GET /metrics HTTP/9.9\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\nnonsense\n: \n\n", 200),
    (b"GET /" + b"x" * 100_000, 431), (b"GET / HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431),
    (bytes(range(256)) * 40, 431)])
def test_garbage_gets_an_error_and_harms_nothing(garbage: bytes, status: int) -> None:
    with serving(metrics_of_one()) as server:
        try:
            answered = send(server, garbage)
        except ConnectionError:  # it closed while we still sent
            answered = b""
        assert answered in (b"",) or answered.startswith(b"HTTP/1.1 %d " % status)
        assert get(server)[0].status == 200


def test_who_asks_without_end_gets_the_same_again() -> None:
    collected: list[None] = []

    def status() -> AgentStatus:
        collected.append(None)
        return STATUS

    with serving(Metrics(status)) as server:
        began_s = time.monotonic()
        for _ in range(50):
            assert get(server)[0].status == 200
        assert len(collected) <= 1 + (time.monotonic() - began_s) / FRESH_S


@pytest.mark.parametrize("encoding, zipped", [
    ("gzip", True), ("deflate, gzip;q=0.5", True), ("*;q=0, gzip ; q=1.0", True), ("gzip;q=0", False),
    ("gzip; q=0.0", False), ("", False), ("br", False), ("xgzip", False)])
def test_gzip_is_sent_to_who_takes_it(encoding: str, zipped: bool) -> None:
    with serving(metrics_of_one()) as server:
        response, body = get(server, headers={"Accept-Encoding": encoding})
        assert (response.headers["Content-Encoding"] == "gzip") is zipped
        assert b"excise_build_info" in (gzip.decompress(body) if zipped else body)


def test_a_page_of_the_web_that_has_its_name_point_here_is_refused() -> None:
    with serving(metrics_of_one()) as server:
        for host in ("evil.example", "evil.example:9477", "127.0.0.1.evil.example", "[::2]", "10.0.0.1:9477", "a:b:c"):
            assert get(server, headers={"Host": host})[0].status == 403
        for host in ("localhost", "LOCALHOST:9477", "127.0.0.1:9477", "[::1]:9477", "127.9.9.9"):
            assert get(server, headers={"Host": host})[0].status == 200


def test_slow_clients_are_hung_up_on_and_counted_and_keep_nobody_waiting() -> None:
    metrics = metrics_of_one()
    with serving(metrics, patience_s=0.5) as server:
        threads, held = threading.active_count(), []
        for i in range(8):
            client = socket.create_connection(server.address, DEADLINE_S)
            client.sendall(b"GET /metrics HTTP/1.1\r\n"[:i])
            held.append(client)
        assert get(server)[0].status == 200
        assert threading.active_count() == threads
        wait(lambda: dropped(metrics, "slow") == 8, "slow clients to be hung up on")
        for client in held:
            assert client.recv(1) == b""
            client.close()


def test_a_client_that_trickles_has_no_longer_than_one_that_says_nothing() -> None:
    metrics = metrics_of_one()
    with serving(metrics, patience_s=0.5) as server, socket.create_connection(server.address, DEADLINE_S) as client:
        def hung_up() -> bool:
            try:
                client.sendall(b"A: b\r\n")
            except ConnectionError:
                return True
            return dropped(metrics, "slow") == 1
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        wait(hung_up, "a client that sends a header now and then to be hung up on")


def test_a_crowd_of_silent_clients_does_not_keep_a_scrape_out() -> None:
    metrics = metrics_of_one()
    with serving(metrics, patience_s=DEADLINE_S, most_connections=4) as server:
        crowd = [socket.create_connection(server.address, DEADLINE_S) for _ in range(50)]
        assert get(server)[0].status == 200
        assert dropped(metrics, "crowded_out") >= 46
        for client in crowd:
            client.close()


def test_a_client_that_does_not_read_keeps_nobody_waiting() -> None:
    metrics, summary = Metrics(lambda: STATUS), typical(1)[0]
    for i in range(40):  # megabytes: more than the sockets' buffers
        metrics.take(Workload(f"w{i}" + "x" * 100, "unit"), summary)
    with serving(metrics, patience_s=1.0) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert len(get(server)[1]) > 1_000_000
        wait(lambda: dropped(metrics, "slow") == 1, "a client that does not read to be hung up on")
        client.close()


def test_a_state_that_cannot_be_had_fails_its_scrape_and_no_other() -> None:
    fails = [True]

    def status() -> AgentStatus:
        if fails.pop() if fails else False:
            raise RuntimeError("no state")
        return STATUS

    metrics = Metrics(status)
    with serving(metrics) as server:
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            get(server)
        assert get(server)[0].status == 200
        assert dropped(metrics, "failed") == 1


def test_it_stops_with_clients_that_hang_on_and_its_port_is_free_at_once() -> None:
    gc.collect()  # sockets that other tests left
    descriptors = len(os.listdir("/proc/self/fd"))
    server = MetricsServer("127.0.0.1:0", metrics_of_one())
    server.start()
    address = server.address
    with socket.create_connection(address, DEADLINE_S), socket.create_connection(address, DEADLINE_S) as asking:
        asking.sendall(b"GET / HT")
        assert get(server)[0].status == 200
        assert server.stop(DEADLINE_S)
        again = MetricsServer(f"127.0.0.1:{address[1]}", metrics_of_one())
        again.start()
        assert get(again)[0].status == 200
        assert again.stop(DEADLINE_S) and again.stop(DEADLINE_S)
    MetricsServer("127.0.0.1:0", metrics_of_one()).stop()  # never started
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("listen", ["0.0.0.0:9477", "[::]:9477", "192.0.2.1:9477", "[2001:db8::1]:80",
                                    "[::ffff:10.0.0.1]:80", "128.0.0.1:1"])
def test_an_address_beyond_loopback_is_refused_and_the_sentence_says_why(listen: str) -> None:
    with pytest.raises(ListenError, match=r"\[prometheus\] listen .* loopback only; write 127.0.0.1"):
        MetricsServer(listen, metrics_of_one())


@pytest.mark.parametrize("listen", ["", "9477", ":9477", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "::1:9477",
                                    "127.0.0.1:9477\n", "127.0.0.1:٣", "example.com:80", "[localhost]:1", "127.1:80"])
def test_what_is_no_address_is_refused_and_the_sentence_names_the_key(listen: str) -> None:
    with pytest.raises(ListenError, match=r"\[prometheus\] listen .* write 127.0.0.1:"):
        MetricsServer(listen, metrics_of_one())


def test_loopback_has_several_names() -> None:
    assert parse_listen("localhost:1") == ("127.0.0.1", 1)
    assert parse_listen("127.9.9.9:2") == ("127.9.9.9", 2)
    assert parse_listen("[::1]:3") == ("::1", 3)


def test_a_port_that_is_taken_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=rf"\[prometheus\] listen .* another program listens on port {port}"):
            MetricsServer(f"127.0.0.1:{port}", metrics_of_one())
