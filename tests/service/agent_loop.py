"""A control server with a clock that stands still, turned by hand; and clients that are other users."""

from __future__ import annotations

import os
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from excise_agent.service.control_frames import MAX_FRAME_BYTES, Unframer, pack_frame
from excise_agent.service.control_server import ControlServer, Handler

DEADLINE_S = 60.0
NOBODY = 65534


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def serving(path: Path, handlers: Mapping[str, Handler], group: str = "") -> Iterator[tuple[ControlServer, Clock]]:
    clock = Clock()
    server = ControlServer(path, group, handlers, version="9.9", clock=clock)
    try:
        yield server, clock
    finally:
        server.close()


def turn(server: ControlServer, most: int = 1000) -> None:
    """Until nothing is to be done."""
    server.turn()
    for _ in range(most):
        if not select.select([server], [], [], 0)[0]:
            break
        server.turn()


@contextmanager
def looping(server: ControlServer, tick: Callable[[], None] = lambda: None) -> Iterator[None]:
    """In a thread, as a daemon would, while clients that block are tried."""
    reading, writing = os.pipe()

    def loop() -> None:
        while reading not in select.select([server, reading], [], [])[0]:
            server.turn()
            tick()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        os.write(writing, b"x")
        thread.join(DEADLINE_S)
        os.close(reading)
        os.close(writing)
        assert not thread.is_alive()


class RawClient:
    """Sends what it is told to, well formed or not."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(path.parent, os.O_PATH)
        self.socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        self.socket.setblocking(False)
        self._unframer = Unframer(MAX_FRAME_BYTES)
        self.closed = False

    def ask(self, op: object, **fields: object) -> None:
        self.socket.sendall(pack_frame({"op": op, **fields}))

    def frames(self) -> list[dict[str, Any]]:
        """All that has come; notes whether the server has closed."""
        found: list[dict[str, Any]] = []
        while True:
            try:
                data = self.socket.recv(1 << 20)
            except BlockingIOError:
                return found
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return found
            found += self._unframer.feed(data)

    def close(self) -> None:
        self.socket.close()


def as_user(uid: int, gid: int, groups: list[int], do: Callable[[], str]) -> str:
    """What `do` says in a child that is really that user, with no way back and no capabilities."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os.write(writing, do().encode())
            status = 0
        except BaseException:  # noqa: BLE001 - the top frame of this process
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode()
    assert os.waitpid(child, 0)[1] == 0, said
    return said
