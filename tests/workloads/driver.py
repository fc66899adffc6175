"""Starts a workload, and its clients in a process of their own, for a test that knows the answer.

    with start_workload("threaded_http", ["--unknown", "0.1"]) as workload:
        workload.ready()
        before = workload.truth()
        ...                                 # attach to workload.pid
        span = difference(before, workload.truth())
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "packaging" / "demo"
if str(DEMO) not in sys.path:
    sys.path.append(str(DEMO))

from children import Child  # noqa: E402
from stopwatch import Chronicle, truth  # noqa: E402

WORKLOADS = ("threaded_http", "asyncio_server", "loader", "token_loop")
WITH_CLIENTS = ("threaded_http", "asyncio_server")


class Running:
    """A workload that was started. Ends what it started, and nothing else, by pid."""

    def __init__(self, name: str, options: list[str], python: str, connections: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix=f"workload-{name}-")
        self._connections = connections if name in WITH_CLIENTS else 0
        self._load: Child | None = None
        self._server = Child(HERE / f"{name}.py", "--folder", self._folder.name, *options, python=python)

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def clock(self) -> Path:
        """The file that its threads write their times to."""
        return Path(self._folder.name) / "clock"

    def ready(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Returns when it serves and every client was answered once: {"pid", "port", "clock"}."""
        said = self._server.ready(timeout_s)
        if self._connections and self._load is None:
            self._load = Child(DEMO / "load.py", f"http://127.0.0.1:{said['port']}/infer", "--connections",
                               str(self._connections))
            self._load.ready(timeout_s)
        return said

    def truth(self) -> dict[str, Any]:
        """Read from the clock's file: the workload is not disturbed."""
        return truth(self.clock)

    def chronicle(self) -> Chronicle:
        """A context in which any window can be asked for afterwards, as `between(start_ns, end_ns)`."""
        return Chronicle(self.clock)

    def load_pid(self) -> int | None:
        return self._load.pid if self._load else None

    def stop(self) -> str:
        """Ends clients, then server; what the clients measured, as JSON ("" without clients)."""
        try:
            said = self._load.last_words() if self._load else ""
            self._server.stop()
        finally:
            self._folder.cleanup()
        return said.strip()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def start_workload(name: str, options: list[str] | None = None, python: str = sys.executable,
                   connections: int = 2) -> Running:
    if name not in WORKLOADS:
        raise ValueError(f"no workload is called {name}: {', '.join(WORKLOADS)}")
    return Running(name, options or [], python, connections)


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Of two truths: {"stage_ns", "start_ns", "end_ns", "carrier_ns": the threads' time in between}."""
    start_ns, end_ns = before["now_mono_ns"], after["now_mono_ns"]
    lived = sum(max(0, (t["ended_ns"] or end_ns) - max(t["began_ns"], start_ns)) for t in after["threads"])
    stage_ns = {name: ns - before["stage_ns"][name] for name, ns in after["stage_ns"].items()}
    return {"stage_ns": stage_ns, "start_ns": start_ns, "end_ns": end_ns, "carrier_ns": lived}
