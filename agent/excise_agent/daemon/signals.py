"""Signals as something to wait for, beside sockets."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Signals:
    """Puts handlers on for SIGTERM, SIGINT and SIGHUP; `close` puts back what was there."""

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        self._r, self._w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = signal.set_wakeup_fd(self._w, warn_on_full_buffer=False)
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._before = {number: signal.signal(number, self._take) for number in wanted}

    def fileno(self) -> int:
        return self._r

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def drain(self) -> None:
        """What woke us has done so."""
        try:
            while os.read(self._r, 512):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        signal.set_wakeup_fd(self._wake)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for fd in (self._r, self._w):
            os.close(fd)

    def _take(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self.stop = True
