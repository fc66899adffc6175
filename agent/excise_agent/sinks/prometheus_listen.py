"""Where /metrics is served: the value of `[prometheus] listen`, and the socket that it means."""

from __future__ import annotations

import errno
import ipaddress
import json
import re
import socket
from typing import Final

KEY: Final = "[prometheus] listen"
_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)):(\d{1,5})", re.ASCII)


class ListenError(ValueError):
    """A sentence that names the key and the way out."""


def parse_listen(listen: str) -> tuple[str, int]:
    """Address and port (0: any that is free). ListenError unless it is loopback."""
    found = _LISTEN.fullmatch(listen)
    if found is None or int(found[3]) > 65535:
        raise ListenError(f'{_said(listen)} is not ADDRESS:PORT; write 127.0.0.1:9477 or [::1]:9477')
    host = found[1] or found[2]
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ListenError(
            f'{_said(listen)}: {host} is a name, and may be any address; write 127.0.0.1:{found[3]}'
        ) from None
    if not address.is_loopback:
        raise ListenError(
            f'{_said(listen)}: /metrics says what runs on this host to whoever asks, so it is served on loopback '
            f"only; write 127.0.0.1:{found[3]}, and let a Prometheus agent or a proxy with authentication on this host "
            "carry it on"
        )
    return str(address), int(found[3])


def listening_socket(listen: str) -> socket.socket:
    """Bound, listening, not blocking. ListenError when that cannot be."""
    host, port = parse_listen(listen)
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not kept waiting by the last agent's connections
        server.bind((host, port))
        server.listen(16)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise ListenError(f'{_said(listen)}: {_why(error, port)}') from error
    return server


def _said(listen: str) -> str:
    return f"{KEY} = {json.dumps(listen)}"


def _why(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (f"another program listens on port {port} (`ss -ltnp 'sport = :{port}'` says which); "
                "stop it or choose another port")
    if error.errno == errno.EACCES:
        return f"the agent's user may not listen on port {port}; choose one above 1023"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return "this host has no such address; write 127.0.0.1 for IPv4"
    return f"{error.strerror}; choose another address or port"
