"""Where something listens."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from excise_agent.config.kinds import Kind

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Address(Kind[str]):
    """HOST:PORT; an address of IP 6 in brackets."""

    expected = 'an address like "host.example:24224" or "[::1]:24224"'

    def read(self, value: object) -> str:
        host_and_port(value)
        return str(value)


class LoopbackAddress(Kind[str]):
    """Nothing of ours listens to the network."""

    expected = 'an address of this host alone, like "127.0.0.1:9477" or "[::1]:9477"'

    def read(self, value: object) -> str:
        host, _port = host_and_port(value, least_port=0)
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError
        return str(value)


class Url(Kind[str]):
    expected = "an http:// or https:// address without user, password or query: a password goes into a file"
    secret = True

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > 1024:
            raise ValueError
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or "?" in value or "#" in value:
            raise ValueError
        if not parts.hostname or " " in value or parts.port == 0:
            raise ValueError
        return value


def host_and_port(value: object, least_port: int = 1) -> tuple[str, int]:
    """Raises ValueError."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not least_port <= int(port) <= 65535:
        raise ValueError
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if not _HOST.fullmatch(host):
        raise ValueError
    return host, int(port)
