"""What is watched: a saturated server, threads that only switch, a crowd of sleepers, an idle process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TARGETS = HERE / "targets"
DEMO = HERE.parents[1] / "packaging" / "demo"
sys.path.insert(0, str(DEMO))

from children import Child  # noqa: E402
from load import Client  # noqa: E402

CLIENTS = 2
BURST_CPUS = 4  # at most: what a burst does not switch, it spins


class Demo:
    """The demo server, and clients in this process whose answers can be counted at any time."""

    def __init__(self, folder: Path) -> None:
        self._server = Child(DEMO / "server.py", "--folder", str(folder))
        self._stop = threading.Event()

    def __enter__(self) -> Demo:
        said = self._server.ready()
        self.pid = said["pid"]
        self._clients = [Client(f"http://127.0.0.1:{said['port']}/infer", self._stop) for _ in range(CLIENTS)]
        for client in self._clients:
            client.start()
        for client in self._clients:
            client.answered_once.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The host without it."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def during(self, seconds: float) -> tuple[int, float]:
        """Requests answered from now on, and the server's CPU seconds."""
        requests, cpu = self._answered(), cpu_s(self.pid)
        time.sleep(seconds)
        return self._answered() - requests, cpu_s(self.pid) - cpu

    def _answered(self) -> int:
        return sum(len(client.latencies_s) for client in self._clients)


def cpu_s(pid: int) -> float:
    """The CPU-time clock of a process: all of its threads, those that ended included; not its children."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED, include/linux/posix-timers_types.h


class Burst:
    """targets/burst.py: pairs of threads, one a CPU, that switch as often as they are told."""

    def __init__(self, pairs: int = BURST_CPUS) -> None:
        cpus = sorted(os.sched_getaffinity(0))[-pairs:]
        self._folder = tempfile.TemporaryDirectory(prefix="excise-burst-")
        library = Path(self._folder.name) / "pingpong.so"
        source = TARGETS / "pingpong.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        command = [sys.executable, str(TARGETS / "burst.py"), str(library), *(str(cpu) for cpu in cpus)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Burst:
        self.pid = int(self._line()["pid"])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()

    def begin(self, seconds: float, switches_per_s: float) -> None:
        """0: as many as it can."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds} {switches_per_s}\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Waits for it: {"trips", "switches", "seconds"}."""
        return self._line()

    def run(self, seconds: float, switches_per_s: float) -> dict[str, Any]:
        self.begin(seconds, switches_per_s)
        return self.end()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError(f"burst.py ended with exit status {self._process.wait(60)}")
        out: dict[str, Any] = json.loads(said)
        return out


@contextlib.contextmanager
def crowd(threads: int, processes: int, asleep_s: float) -> Iterator[int]:
    """Threads that do a little and sleep, over and over: pid of the first process."""
    child = Child(TARGETS / "threads.py", str(threads), str(processes), str(asleep_s))
    try:
        yield child.ready()["pid"]
    finally:
        child.stop()


@contextlib.contextmanager
def idle_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
