"""What systemd is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent.service.notify import MAX_STATUS_BYTES, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def said(manager: socket.socket) -> list[str]:
    return manager.recv(65536).decode().split("\n")


def test_each_state_is_a_datagram(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environ)
    assert environ == {}  # children do not speak for the service
    assert notifier.watchdog_s == 30.0
    assert notifier.ready("watching") and said(manager) == ["READY=1", "STATUS=watching", f"MAINPID={os.getpid()}"]
    assert notifier.reloading() and said(manager) == ["RELOADING=1"]
    assert notifier.status("idle") and said(manager) == ["STATUS=idle"]
    assert notifier.watchdog() and said(manager) == ["WATCHDOG=1"]
    assert notifier.stopping() and said(manager) == ["STOPPING=1"]
    notifier.close()
    assert not notifier.status("x") and notifier.failed == 0


def test_abstract_sockets_are_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel picks an abstract name
        name = listening.getsockname().decode().replace("\0", "@", 1)
        notifier = Notifier({"NOTIFY_SOCKET": name})
        assert notifier.status("idle") and said(listening) == ["STATUS=idle"]
        notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "x"}])
def test_without_a_socket_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    assert not notifier.ready() and not notifier.watchdog() and notifier.failed == 0


@pytest.mark.parametrize("name", ["/nonexistent/notify", "/a\0b", "/" + "a" * 200])
def test_a_socket_that_cannot_be_reached_is_counted_and_survived(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert not notifier.ready() and notifier.failed == 1
    notifier.close()


def test_a_manager_that_does_not_read_never_blocks_us(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    while notifier.status("x" * 500):
        pass
    assert notifier.failed == 1
    notifier.close()


def test_a_name_in_the_status_cannot_say_more_than_a_status(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.status("watching evil\nSTOPPING=1\x1b[2J\ud800")
    assert said(manager) == ["STATUS=watching evil\\x0aSTOPPING=1\\x1b[2J\\ud800"]
    notifier.status("é" * 1000)
    assert len(said(manager)[0].encode()) <= len("STATUS=") + MAX_STATUS_BYTES
    notifier.close()


@pytest.mark.parametrize(("usec", "pid", "seconds"), [
    ("1500000", "", 1.5), ("1500000", "42", 1.5), ("1500000", "43", None), ("0", "", None), ("", "42", None),
    ("-5", "", None), ("x", "", None), ("²", "", None), ("9" * 5000, "", None),
])
def test_the_watchdog_is_ours_when_it_names_us(usec: str, pid: str, seconds: float | None) -> None:
    environ = {"WATCHDOG_USEC": usec, **({"WATCHDOG_PID": pid} if pid else {})}
    assert Notifier(environ, pid=42).watchdog_s == seconds
