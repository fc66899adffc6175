"""A server's own clock: wall time of each of its threads by stage, in a file to be read at any time.

Every thread that was registered is in exactly one stage from its registration to its end, so the stages of a
span add up to its threads' time. A lap inside another pauses the outer one. Intervals are CLOCK_MONOTONIC and
include whatever happens to the thread meanwhile: waits for the GIL, for a lock, for a CPU.

Reading needs no answer from the server: `python stopwatch.py FILE` prints the truth as JSON while it works.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

STAGES = (
    "glue",          # a working thread outside every lap
    "data_loading", "preprocess", "compute", "logging", "postprocess", "serving", "runtime", "handoff",
    "idle",
    "loader_wait",   # a consumer waits for a loader's batch
    "sleep",         # time.sleep inside a request
    "unknown",       # user code that no rule could know
)
STAGE_ID = {name: i for i, name in enumerate(STAGES)}
NOT_BUSY = ("idle", "handoff")

_PID, _TID, _BEGAN, _ENDED, _SEQ, _STAGE, _SINCE, _NS = range(8)
_CELLS = 32                      # int64 of a slot; slot 0 is the file's: slots in use, creation time
_SLOTS = 4096
assert _NS + len(STAGES) <= _CELLS
now_ns = time.monotonic_ns       # CLOCK_MONOTONIC


class _Slot:
    """One thread's clock. Only that thread writes; readers see an odd sequence number while it does."""

    __slots__ = ("cells",)

    def __init__(self, cells: memoryview, stage: int) -> None:
        self.cells = cells
        began = now_ns()
        cells[_PID], cells[_TID] = os.getpid(), threading.get_native_id()
        cells[_STAGE], cells[_SINCE] = stage, began
        cells[_BEGAN] = began

    def switch(self, stage: int) -> int:
        """Ends the stage that was, returns it. Measured: 0.7 us on a cloud core."""
        cells = self.cells
        cells[_SEQ] += 1
        before = cells[_STAGE]
        now = now_ns()
        cells[_NS + before] += now - cells[_SINCE]
        cells[_STAGE] = stage
        cells[_SINCE] = now
        cells[_SEQ] += 1
        return before

    def end(self) -> None:
        self.switch(0)
        self.cells[_ENDED] = self.cells[_SINCE]


class _Lap:
    __slots__ = ("_before", "_stage", "_watch")

    def __init__(self, watch: Stopwatch, stage: str) -> None:
        self._watch, self._stage = watch, STAGE_ID[stage]

    def __enter__(self) -> None:
        self._before = self._watch.slot().switch(self._stage)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._watch.slot().switch(self._before)


class Stopwatch:
    """`with watch("preprocess"): ...`. All processes of a server open the same file."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._lock, self._local = threading.Lock(), threading.local()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, _SLOTS * _CELLS * 8)
        self._cells = memoryview(mmap.mmap(self._fd, 0)).cast("q")
        if self._cells[1] == 0:
            self._cells[1] = now_ns()
        os.register_at_fork(after_in_child=self._forked)

    def __call__(self, stage: str) -> _Lap:
        return _Lap(self, stage)

    def switch(self, stage: str) -> None:
        """From here on the thread is in this stage, where a lap does not fit."""
        self.slot().switch(STAGE_ID[stage])

    def register(self, stage: str = "glue") -> None:
        """Starts the clock of the calling thread."""
        with self._lock:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)
            self._cells[0] += 1
            number = self._cells[0]
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        if number >= _SLOTS:
            raise RuntimeError(f"more than {_SLOTS} threads were timed")
        self._local.slot = _Slot(self._cells[number * _CELLS:(number + 1) * _CELLS], STAGE_ID[stage])

    def end(self) -> None:
        """Stops the clock of the calling thread."""
        self.slot().end()
        del self._local.slot

    def slot(self) -> _Slot:
        try:
            slot: _Slot = self._local.slot
        except AttributeError:
            self.register()
            slot = self._local.slot
        return slot

    def mine(self) -> dict[str, int]:
        """The calling thread's closed intervals, ns by stage."""
        cells = self.slot().cells
        return {name: cells[_NS + i] for i, name in enumerate(STAGES)}

    def truth(self) -> dict[str, Any]:
        return _read(self._cells)

    def _forked(self) -> None:
        self._lock, self._local = threading.Lock(), threading.local()


def truth(path: str | Path) -> dict[str, Any]:
    """Cumulative: {"stage_ns", "since_mono_ns", "now_mono_ns", "threads"}. Take the difference of two."""
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        cells = memoryview(mapped).cast("q")
        try:
            return _read(cells)
        finally:
            cells.release()


def _read(cells: memoryview) -> dict[str, Any]:
    threads = [t for t in (_thread(cells, i * _CELLS) for i in range(1, cells[0] + 1)) if t is not None]
    total = {name: sum(t["stage_ns"][name] for t in threads) for name in STAGES}
    return {"stage_ns": total, "since_mono_ns": cells[1], "now_mono_ns": now_ns(), "threads": threads}


def _thread(cells: memoryview, at: int) -> dict[str, Any] | None:
    """The open interval counts up to now. None: the slot is only just being taken."""
    while True:
        seq = cells[at + _SEQ]
        row = cells[at:at + _CELLS].tolist()
        now = now_ns()
        if seq % 2 == 0 and cells[at + _SEQ] == seq:
            break
    if not row[_BEGAN]:
        return None
    stage_ns = dict(zip(STAGES, row[_NS:], strict=False))
    if not row[_ENDED]:
        stage_ns[STAGES[row[_STAGE]]] += now - row[_SINCE]
    return {"pid": row[_PID], "tid": row[_TID], "began_ns": row[_BEGAN], "ended_ns": row[_ENDED] or None,
            "stage_ns": stage_ns}


class Chronicle:
    """Reads a server's clock at intervals, so that the truth of any window can be told afterwards."""

    def __init__(self, path: str | Path, interval_s: float = 0.05) -> None:
        self._path, self._interval_s = path, interval_s
        self._seen: list[dict[str, Any]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="chronicle", daemon=True)

    def __enter__(self) -> Chronicle:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def between(self, start_ns: int, end_ns: int) -> dict[str, int]:
        """Stage -> ns within the window; linear between readings, which are an interval apart."""
        before, after = self._at(start_ns), self._at(end_ns)
        return {name: round(after[name] - before[name]) for name in STAGES}

    def _watch(self) -> None:
        while True:
            self._seen.append(truth(self._path))
            if self._stop.wait(self._interval_s):
                self._seen.append(truth(self._path))
                return

    def _at(self, when_ns: int) -> dict[str, float]:
        seen = list(self._seen)
        for left, right in itertools.pairwise(seen):
            if left["now_mono_ns"] <= when_ns <= right["now_mono_ns"]:
                part = (when_ns - left["now_mono_ns"]) / (right["now_mono_ns"] - left["now_mono_ns"])
                return {name: left["stage_ns"][name] * (1 - part) + right["stage_ns"][name] * part
                        for name in STAGES}
        raise ValueError("the window reaches outside of what was watched")


def busy_ns(stage_ns: dict[str, int]) -> int:
    """What shares are of: everything but idle and handoff, as in Excise's report."""
    return sum(ns for name, ns in stage_ns.items() if name not in NOT_BUSY)


if __name__ == "__main__":
    print(json.dumps(truth(sys.argv[1])))
