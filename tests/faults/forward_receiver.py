"""A Fluent Forward server in a thread that does what a test wants of it: takes, fails, dawdles, talks nonsense.

What it has acknowledged it has: (agent, sequence) -> how often. What it was sent and did not acknowledge may be sent
again; `seen` has both.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Self

import msgpack

TAKE: Final = "take"
FAULTS: Final = ("close", "garbage", "wrong ack", "reset", "half an ack", "late")
LATE_S: Final = 0.3


class ForwardReceiver:
    """`mood()`: for each message "take", one of FAULTS, or "silent" (no answer as long as the mood lasts)."""

    def __init__(self, mood: Callable[[], str] = lambda: TAKE) -> None:
        self.mood = mood
        self.taken: Counter[tuple[str, int]] = Counter()  # summaries
        self.gaps: Counter[tuple[str, int, int, str]] = Counter()
        self.messages = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def config(self) -> str:
        return self.configured("receiver")

    def configured(self, name: str, timeout: str = "2s") -> str:
        """As a sink of that name."""
        port = self._socket.getsockname()[1]
        return f'[[forward]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\ntimeout = "{timeout}"\n'

    def lost(self) -> set[tuple[str, int]]:
        """Numbers that it was told are lost."""
        with self._lock:
            return {(agent, n) for agent, first, last, _ in self.gaps for n in range(first, last + 1)}

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        messages = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)
        connection.settimeout(0.2)
        with connection, contextlib.suppress(ConnectionError, BrokenPipeError):
            while not self._stopping.is_set():
                try:
                    content = connection.recv(1 << 16)
                except TimeoutError:
                    continue
                if not content:
                    return
                messages.feed(content)
                for message in messages:
                    if not self._answer(connection, message):
                        return

    def _answer(self, connection: socket.socket, message: list[Any]) -> bool:
        """Whether the connection goes on."""
        _tag, entries, options = message
        ack = msgpack.packb({"ack": options["chunk"]})
        self.messages += 1
        mood = self.mood()
        if mood == "late":
            self._stopping.wait(LATE_S)
        if mood in (TAKE, "late"):
            self._take(entries)
            connection.sendall(ack)
            return True
        if random.random() < 0.5:  # it has them, and could not say so
            self._take(entries)
        while mood == "silent" and not self._stopping.wait(0.05):
            mood = self.mood()
        if mood in (TAKE, "late"):
            return False  # too late for this one
        if mood == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif mood != "close":
            answers = {"garbage": random.randbytes(200), "wrong ack": msgpack.packb({"ack": "other"}),
                       "half an ack": ack[:-3]}
            connection.sendall(answers[mood])
        return False

    def _take(self, entries: bytes) -> None:
        with self._lock:
            for _time, event in msgpack.Unpacker(_Bytes(entries), raw=False, ext_hook=lambda *_: 0):
                if gap := event.get("lost"):
                    self.gaps[event["agent"], gap["first"], gap["last"], gap["reason"]] += 1
                else:
                    self.taken[event["agent"], event["sequence"]] += 1


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, n: int) -> bytes:
        out, self._content = self._content[:n], self._content[n:]
        return out


def moody(seed: int, bad: float) -> Callable[[], str]:
    """One of the faults, so often."""
    draw = random.Random(seed)
    return lambda: draw.choice(FAULTS) if draw.random() < bad else TAKE
