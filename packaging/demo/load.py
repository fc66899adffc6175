"""A closed loop of clients: each has one connection and sends its next request when the last was answered.

Says {"ready": true} when every client was answered once, and what it measured when it ends.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import threading
import time
from urllib.parse import urlsplit

from children import die_with_parent


class Client(threading.Thread):
    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._stop_asked = urlsplit(url), stop
        self.answered_once = threading.Event()
        self.latencies_s: list[float] = []
        self.failures = 0

    def run(self) -> None:
        while not self._stop_asked.is_set():
            host = self._url.hostname or "127.0.0.1"
            connection = http.client.HTTPConnection(host, self._url.port, timeout=30)
            try:
                self._ask_on(connection)
            except (OSError, http.client.HTTPException):
                self.failures += 1
                self._stop_asked.wait(0.1)
            finally:
                connection.close()

    def _ask_on(self, connection: http.client.HTTPConnection) -> None:
        while not self._stop_asked.is_set():
            began = time.monotonic()
            connection.request("GET", self._url.path or "/")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.failures += 1
                continue
            self.latencies_s.append(time.monotonic() - began)
            self.answered_once.set()


def summary(clients: list[Client], seconds: float) -> dict[str, float | None]:
    latencies = sorted(latency for client in clients for latency in client.latencies_s)

    def quantile_ms(part: float) -> float | None:
        at = min(len(latencies) - 1, int(part * len(latencies)))
        return round(latencies[at] * 1e3, 2) if latencies else None

    return {"requests": len(latencies), "failures": sum(client.failures for client in clients),
            "requests_per_s": round(len(latencies) / seconds, 2),
            "p50_ms": quantile_ms(0.5), "p99_ms": quantile_ms(0.99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--duration", type=float, help="seconds (default: until SIGTERM)")
    options = parser.parse_args()
    die_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    clients = [Client(options.url, stop) for _ in range(options.connections)]
    began = time.monotonic()
    for client in clients:
        client.start()
    while not stop.is_set() and not all(client.answered_once.wait(0.05) for client in clients):
        pass
    if not stop.is_set():
        print(json.dumps({"ready": True}), flush=True)
    stop.wait(options.duration)
    seconds = time.monotonic() - began
    stop.set()
    print(json.dumps(summary(clients, seconds)), flush=True)


if __name__ == "__main__":
    main()
