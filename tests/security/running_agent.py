"""`excise agent` in folders of its own, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from excise_agent.service.control_client import ControlError, call

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0  # the first start compiles probes and kernels
EXCISE = [sys.executable, "-m", "excise_agent.cli"]


def environment(**more: str) -> dict[str, str]:
    """Ours, with this checkout's packages before installed ones."""
    return os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'agent'}"} | more


def until(done: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Waits for what another process does."""
    end = monotonic() + deadline_s
    while not done():
        assert monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        sleep(0.05)


class RunningAgent:
    """`run`, `state`: its folders. `log`: what it has said."""

    def __init__(self, folder: Path) -> None:
        self.state, self.run = folder / "state", folder / "run"
        self.log, self.config = folder / "agent.log", folder / "config.toml"
        self.socket = self.run / "control.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, tables: str = "", *, before: tuple[str, ...] = (), window: str = "1s", rate: float = 99.0) -> None:
        """With these tables of configuration beside its own; `before`: a program that runs it, like strace."""
        self.config.write_text(
            f'[agent]\nwindow = "{window}"\nrate_hz = {rate}\nbudget = "none"\nstate_dir = "{self.state}"\n'
            f'runtime_dir = "{self.run}"\ngroup = ""\n[log]\nlevel = "debug"\n'
            f'[discovery]\ninterval = "200ms"\nlibraries = []\n{tables}')
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*before, *EXCISE, "agent", "--config", str(self.config)],
                                            stdout=log, stderr=log, env=environment())
        until(self._is_up, "the agent answers")

    @property
    def pid(self) -> int:
        """Its own, whatever runs it."""
        assert self.process is not None
        below = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        name = Path(f"/proc/{self.process.pid}/comm").read_text().strip()
        return int(below[0]) if name == "strace" else self.process.pid

    def status(self) -> dict[str, Any]:
        return dict(call(self.socket, "status", timeout_s=DEADLINE_S))

    def windows(self, workload: str) -> int:
        rows = [row for row in self.status()["workloads"] if row["name"] == workload]
        return int(rows[0]["windows"]) if rows else 0

    def excise(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*EXCISE, *words], capture_output=True, env=environment(), timeout=DEADLINE_S)

    def stop(self) -> None:
        """As systemd does; all it has is written."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        assert code == 0, self.log.read_text()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            if (pid := self.pid) != self.process.pid:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait(DEADLINE_S)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.status())
        except ControlError:
            return False
