"""Child processes: started, waited for until they are ready, ended by the one who started them."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Called in a child: it gets SIGTERM when the thread that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Child:
    """A script that prints one line of JSON when it is ready."""

    def __init__(self, script: Path, *arguments: str, python: str = sys.executable,
                 environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen([python, str(script), *arguments], stdout=subprocess.PIPE,
                                         env={**os.environ, **(environment or {})})
        self._name = script.name
        self._said: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """What the child said first. RuntimeError: it ended, or said nothing in time."""
        if self._said is None:
            line = self._line(time.monotonic() + timeout_s)
            if not line:
                code = self.stop()
                raise RuntimeError(f"{self._name} was not ready in {timeout_s:.0f} s (exit status {code})")
            self._said = json.loads(line)
        return self._said

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM, then SIGKILL. Exit status, negative: the signal that ended it."""
        if self.alive():
            self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def last_words(self, timeout_s: float = 10.0) -> str:
        """Stops the child and returns the rest of what it printed."""
        self.stop(timeout_s)
        assert self._process.stdout is not None
        return self._process.stdout.read().decode()

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        line, fd = b"", self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return b""
                byte = os.read(fd, 1)
                if not byte:
                    return b""
                line += byte
        return line
