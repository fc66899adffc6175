"""What is measured: a saturated server, an idle process, two that only switch; and the agent beside them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "packaging" / "demo"
sys.path.insert(0, str(DEMO))

from children import Child  # noqa: E402
from load import Client  # noqa: E402

CLIENTS = 2


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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watching:
    """watch.py beside a process. In a `with` block: it samples when entered, and is waited for at the end."""

    def __init__(
        self, pid: int, duration_s: float, rate_hz: float, record: Path | None = None, cache: Path | None = None
    ) -> None:
        command = [
            sys.executable,
            str(HERE / "watch.py"),
            str(pid),
            "--duration",
            str(duration_s),
            "--rate",
            str(rate_hz),
        ]
        if record is not None:
            command += ["--record", str(record)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        if cache is not None:
            environment["CACHE_DIRECTORY"] = str(cache)
        self._began = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self._ready_s: float | None = None

    def __enter__(self) -> Watching:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.wait(60)

    def wait(self) -> dict[str, Any]:
        """What the window cost; `ready_s` is the time from exec to sampling."""
        self._begin()
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        if self._process.wait(60):
            raise RuntimeError(f"watch.py ended with exit status {self._process.returncode}")
        return {**json.loads(said), "ready_s": self._ready_s}

    def _begin(self) -> None:
        if self._ready_s is None:
            assert self._process.stdout is not None
            self._process.stdout.readline()
            self._ready_s = time.monotonic() - self._began


@contextlib.contextmanager
def idle_process() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def ping_pong() -> Iterator[Callable[[float], float]]:
    """A function that hands a byte to a child and back for so many seconds, both on one CPU: seconds a round trip."""
    there, back = os.pipe(), os.pipe()
    before = os.sched_getaffinity(0)
    cpu = {max(before)}
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, cpu)
        os.close(there[1])
        while byte := os.read(there[0], 1):
            os.write(back[1], byte)
        os._exit(0)

    def trips(seconds: float) -> float:
        os.sched_setaffinity(0, cpu)
        try:
            count, began = 0, time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds:
                for _ in range(100):
                    os.write(there[1], b"x")
                    os.read(back[0], 1)
                count += 100
        finally:
            os.sched_setaffinity(0, before)
        return elapsed / count

    try:
        yield trips
    finally:
        for fd in (*there, *back):
            os.close(fd)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
