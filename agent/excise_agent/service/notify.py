"""Tells systemd how the service is (sd_notify(3)): one datagram each. Without NOTIFY_SOCKET nothing is sent.

The watchdog is to be fed by the loop that does the work. systemd 252 has no Type=notify-reload: RELOADING is followed
by another READY.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

from excise.printable import printable

MAX_STATUS_BYTES: Final = 512


class Notifier:
    """`watchdog_s`: a ping is due at least this often; None: no watchdog. Half of it is a good interval.

    Takes the variables out of `environ`, so that children do not speak for the service. A datagram that cannot be sent
    is counted in `failed`, and the service goes on: systemd shows what it knows.
    """

    def __init__(self, environ: MutableMapping[str, str], pid: int | None = None) -> None:
        pid = os.getpid() if pid is None else pid
        self.failed = 0
        self.watchdog_s = _watchdog(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""), pid)
        self._socket: socket.socket | None = None
        name = environ.pop("NOTIFY_SOCKET", "")
        if name[:1] in ("/", "@"):
            self._address = name.replace("@", "\0", 1) if name[0] == "@" else name
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self, status: str = "") -> bool:
        """It has started, or reloaded."""
        return self._send("READY=1", *_status(status), f"MAINPID={os.getpid()}")

    def reloading(self) -> bool:
        return self._send("RELOADING=1")

    def stopping(self, status: str = "") -> bool:
        return self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`; names in it may be hostile."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        return self.watchdog_s is not None and self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        """Whether it was sent."""
        if self._socket is None or not lines:
            return False
        with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL in the path
            self._socket.sendto("\n".join(lines).encode(), self._address)
            return True
        self.failed += 1
        return False


def _status(text: str) -> list[str]:
    """A line break would begin another assignment."""
    plain = printable(text[:MAX_STATUS_BYTES]).encode()[:MAX_STATUS_BYTES].decode(errors="ignore")
    return [f"STATUS={plain}"] if plain else []


def _watchdog(usec: str, pid: str, own: int) -> float | None:
    """Seconds, if we are who is watched."""
    if not usec.isascii() or not usec.isdigit() or len(usec) > 18 or int(usec) == 0 or (pid and pid != str(own)):
        return None
    return int(usec) / 1e6
