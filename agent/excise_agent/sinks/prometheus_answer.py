"""What the endpoint answers to a request's head: bytes in, bytes out."""

from __future__ import annotations

import gzip
import ipaddress
import re
import time
from typing import Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

MOST_HEAD_BYTES: Final = 8192
FRESH_S: Final = 1.0
_GZIP_LEVEL: Final = 4
_OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.[01]", re.ASCII)
_HOST: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::\d+)?", re.ASCII)
_TEXT: Final = "text/plain; charset=utf-8"
_ROOT: Final = "Excise, a profiler of AI-inference hosts. Its metrics are at /metrics.\n"
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
}


class Answers:
    """To whom asks again within FRESH_S the same is said again: clients in a hurry cost next to nothing."""

    def __init__(self, metrics: Collector) -> None:
        self._metrics = metrics
        self._said: dict[tuple[bool, bool], tuple[float, bytes]] = {}  # (openmetrics, gzip) -> until, response

    def to(self, head: bytes) -> bytes:
        """The whole response. A request that is not one gets a 4xx with a sentence."""
        if len(head) > MOST_HEAD_BYTES:
            return _response(431, f"A request's head may have {MOST_HEAD_BYTES} bytes.\n")
        first, *lines = re.split(r"\r?\n", head.decode("latin-1"))
        request = _REQUEST.fullmatch(first)
        if request is None:
            return _response(400, "This is not an HTTP/1.1 request.\n")
        method, target = request[1], request[2]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if not _is_local(headers.get("host", "")):
            return _response(403, "Ask for this as 127.0.0.1, [::1] or localhost: a web page that has its own name "
                                  "point here is not to read it.\n")
        if method not in ("GET", "HEAD"):
            return _response(405, "Only GET is served here.\n", {"Allow": "GET, HEAD"})
        found = self._page(target.partition("?")[0], headers)
        return found[: found.index(b"\r\n\r\n") + 4] if method == "HEAD" else found

    def _page(self, path: str, headers: dict[str, str]) -> bytes:
        if path == "/":
            return _response(200, _ROOT)
        if path != "/metrics":
            return _response(404, "There is only /metrics here.\n")
        form = _takes_openmetrics(headers.get("accept", "")), _takes_gzip(headers.get("accept-encoding", ""))
        until_s, response = self._said.get(form, (0.0, b""))
        if time.monotonic() >= until_s:
            response = _render(self._metrics, *form)
            self._said[form] = time.monotonic() + FRESH_S, response
        return response


def _is_local(host: str) -> bool:
    """Whether a Host header names this host itself. Absent (HTTP/1.0): yes."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = (found[1] or found[2] or "").lower()
    try:
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _takes_openmetrics(accept: str) -> bool:
    """Whether it is asked for at all, as Prometheus does first: in version 1.0.0, or in any."""
    for each in accept.split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        versions = [p.removeprefix("version=") for p in parameters if p.startswith("version=")]
        if kind == "application/openmetrics-text" and versions in ([], ["1.0.0"]):
            return True
    return False


def _takes_gzip(encoding: str) -> bool:
    return any(re.fullmatch(r"gzip(?:;q=(?!0(\.0*)?$).*)?", each.replace(" ", "")) for each in encoding.split(","))


def _render(metrics: Collector, openmetrics: bool, zipped: bool) -> bytes:
    encode, content_type = choose_encoder(_OPENMETRICS if openmetrics else "")
    body = encode(metrics)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if zipped:
        body = gzip.compress(body, _GZIP_LEVEL)
        headers["Content-Encoding"] = "gzip"
    return _head(200, len(body), headers) + body


def _response(status: int, text: str, headers: dict[str, str] | None = None) -> bytes:
    body = text.encode()
    return _head(status, len(body), {"Content-Type": _TEXT, **(headers or {})}) + body


def _head(status: int, length: int, headers: dict[str, str]) -> bytes:
    """`Connection: close`: a scrape every few seconds is not worth a connection that is kept."""
    every = {**headers, "Content-Length": str(length), "Connection": "close", "X-Content-Type-Options": "nosniff"}
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in every.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")
