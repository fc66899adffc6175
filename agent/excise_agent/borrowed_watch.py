"""The watch of a running agent, for a while: its items come through the control socket, as a recording."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from excise.batch import Batch, Item
from excise.recording import Recording, RecordingError
from excise_agent.attach import Options
from excise_agent.service.control_client import ControlError, stream

PATIENCE_S = 30.0  # between two chunks: a window may be long, batches come every second


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._left:
            self._left = next(self._chunks, b"")
            if not self._left:
                return 0
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


class BorrowedWatch:
    """Like `Watch`, but nothing is attached. Raises ControlError: NoAgent, Refused as "not_watched", ..."""

    def __init__(self, options: Options, sink: Callable[[Item], None], socket: Path) -> None:
        self._sink = sink
        self._stream = stream(
            socket, "attach", timeout_s=PATIENCE_S, pid=options.pid, duration_s=options.duration_s,
            rate_hz=options.rate_hz, budget_ratio=options.budget_ratio, children=options.children,
        )  # fmt: skip

    def run(self, progress: Callable[[float, int, int], None] = lambda *_: None) -> None:
        """Passes the items on until the end. Raises ControlError."""
        started, samples, waits = time.monotonic(), 0, 0
        try:
            for item in Recording(io.BufferedReader(_Chunks(iter(self._stream)))).items():
                self._sink(item)
                if isinstance(item, Batch):
                    running = item.slices["state"] == 0
                    samples += int(item.slices["count"][running].sum())
                    waits += int(item.slices["count"][~running].sum())
                    progress(time.monotonic() - started, samples, waits)
        except RecordingError as error:
            raise ControlError(f"what the agent sent is damaged: {error}") from error

    def stop(self) -> None:
        """Ends `run` early; safe in a signal handler."""
        self._stream.stop()

    def close(self) -> None:
        self._stream.close()
