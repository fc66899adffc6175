"""What the sinks send to: small servers on loopback that keep every byte they get."""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgpack


class ForwardReceiver:
    """Acknowledges as Fluent Forward v1 wants it. `received`: what came, as it came; `records`: as it is meant."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.records: list[dict[str, Any]] = []
        mine = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                unpacker = msgpack.Unpacker(raw=False)
                while content := self.request.recv(1 << 16):
                    mine.received += content
                    unpacker.feed(content)
                    for _tag, entries, option in unpacker:
                        inner = msgpack.Unpacker(raw=False)
                        inner.feed(entries)
                        mine.records += [record for _time, record in inner]
                        self.request.sendall(msgpack.packb({"ack": option["chunk"]}))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class HttpReceiver:
    """Answers 200 to everything. `received`: request lines, headers and bodies."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.requests = 0
        mine = self

        class Request(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mine.received += f"{self.requestline}\n{self.headers}\n".encode() + body
                mine.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
