"""The agent beside a process, as a process of its own: watch.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARTS = ("agent_cpu_ratio", "bpf_cpu_ratio", "tick_cpu_ratio")
"""Of what watch.py says: shares of the target's CPU that add up to the whole cost."""


class Watching:
    """In a `with` block: it samples when entered, and is waited for at the end.

    `budget`: None, the agent's own default; "none", no governor; or a ratio of the target's CPU.
    """

    def __init__(
        self,
        pid: int,
        duration_s: float,
        rate_hz: float = 99.0,
        budget: str | None = None,
        record: Path | None = None,
        cache: Path | None = None,
        summaries: Path | None = None,
        window_s: float = 10.0,
    ) -> None:
        command = [sys.executable, str(HERE / "watch.py"), str(pid)]
        command += ["--duration", str(duration_s), "--rate", str(rate_hz)]
        if budget is not None:
            command += ["--budget", budget]
        if record is not None:
            command += ["--record", str(record)]
        if summaries is not None:
            command += ["--summaries", str(summaries), "--window", str(window_s)]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        if cache is not None:
            environment["CACHE_DIRECTORY"] = str(cache)
        self._began = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self._ready_s: float | None = None
        self._said: dict[str, Any] | None = None

    def __enter__(self) -> Watching:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> dict[str, Any]:
        """What the window cost; `ready_s` is the time from exec to sampling. RuntimeError: it failed."""
        if self._said is None:
            self._begin()
            assert self._process.stdout is not None
            said = self._process.stdout.read()
            if self._process.wait(60):
                raise RuntimeError(f"watch.py ended with exit status {self._process.returncode}")
            self._said = {**json.loads(said), "ready_s": self._ready_s}
        return self._said

    def _begin(self) -> None:
        if self._ready_s is None:
            assert self._process.stdout is not None
            self._process.stdout.readline()
            self._ready_s = time.monotonic() - self._began


def whole_cost(said: dict[str, Any]) -> float:
    """A share of the target's CPU. Parts that the agent could not measure are missing in it."""
    return float(sum(said[part] or 0 for part in PARTS))


def programs_s(said: dict[str, Any]) -> float:
    """CPU seconds in our programs, the whole host's."""
    return sum(p["runs"] * (p["mean_ns"] or 0) for p in said["programs"].values()) / 1e9
