"""An inference server as people write them, which also times itself.

`GET /infer` answers with scores, `GET /truth` with the wall time of its threads by stage.
Prints one line of JSON when it is ready: {"pid", "port", "clock"}.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from children import die_with_parent
from pipeline import Pipeline
from stopwatch import Stopwatch


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: Server

    def handle_one_request(self) -> None:
        with self.server.watch("idle"):   # until the first line of a request is there
            super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.watch.switch("serving")
        return super().parse_request()

    def do_GET(self) -> None:
        told = self.path == "/truth"
        body = json.dumps(self.server.watch.truth()).encode() if told else self.server.work()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.server.watch.switch("idle")

    def log_message(self, format: str, *args: Any) -> None:
        """The pipeline logs."""


class Server(ThreadingHTTPServer):
    """One thread a connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, watch: Stopwatch, work: Callable[[], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.watch, self.work = watch, work

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that left is no error
            super().handle_error(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.watch("serving"):
            super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        self.watch.register("serving")
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.watch.end()


def announce(watch: Stopwatch, port: int | None) -> None:
    print(json.dumps({"pid": os.getpid(), "port": port, "clock": watch.path}), flush=True)


def serve(watch: Stopwatch, work: Callable[[], bytes]) -> None:
    watch.register("serving")
    with Server(watch, work) as server:
        announce(watch, server.server_port)
        with watch("idle"):
            server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="for images, model and log (default: a temporary one)")
    options = parser.parse_args()
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="demo-server-") as own:
        folder = options.folder or Path(own)
        watch = Stopwatch(folder / "clock")
        pipeline = Pipeline(folder, watch)
        pipeline.start(threads=None)
        with contextlib.suppress(KeyboardInterrupt):
            serve(watch, lambda: pipeline.whole(next(pipeline.count)))
    os._exit(0)  # connection threads may be inside the model: nothing is left to flush


if __name__ == "__main__":
    main()
