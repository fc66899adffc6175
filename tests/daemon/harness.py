"""An agent in a folder of its own, as a child process, and targets that only it watches.

    with AgentRun(tmp_path, targets=("one", "two")) as run:
        run.start()
        run.until(lambda s: workload(s, "one")["windows"] >= 3)
        run.kill()

Ends what it has started, and nothing else, by pid.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from excise.spool import Cursor, Entry, Gap, Item
from excise_agent.service.control_client import ControlError, call

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0  # for whatever is waited for: a loaded machine is slow
PAUSE_NS = 500_000_000
EXCISE = [sys.executable, "-m", "excise_agent.cli"]
_runs = itertools.count()
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'agent'}"}

BUSY = """
import sys, time
def inner(n):
    return sum(range(n))
def work():
    for n in range(2000, 6000, 1000):
        inner(n)
turns = open(sys.argv[1], "wb", buffering=0)
n = 0
while True:
    work()
    n += 1
    turns.seek(0)
    turns.write(b"%d" % n)
    time.sleep(0.002)
"""
"""Counts its turns in a file: whether it goes on working."""


class Target:
    """A process that the configuration's rule for `name` matches, by the name of its script. Its tree begins with it:
    it leads a process group."""

    def __init__(self, folder: Path, mark: str, name: str, code: str = BUSY, *arguments: str) -> None:
        script = folder / script_name(mark, name)
        script.write_text(code)
        self.name = name
        self._turns = folder / f"{script.stem}.turns"
        self.process = subprocess.Popen([sys.executable, script, self._turns, *arguments], process_group=0)
        self.pid = self.process.pid

    def turns(self) -> int:
        try:
            return int(self._turns.read_bytes() or b"0")
        except FileNotFoundError:
            return 0

    def works(self) -> bool:
        """Whether it is the process that it was, and makes progress."""
        before = self.turns()
        wait_until(lambda: self.process.poll() is not None or self.turns() > before, f"{self.name} works")
        return self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


class AgentRun:
    """`more`: of the configuration, behind its first tables. `rules`: names that have a rule, beside `targets`."""

    def __init__(
        self, folder: Path, more: str = "", *, targets: Iterable[str] = (), rules: Iterable[str] = (),
        window: str = "1s", environment: Mapping[str, str] | None = None, state: Path | None = None,
    ) -> None:
        self.folder = folder
        self.mark = f"{os.getpid()}-{next(_runs)}"  # its targets, and no others
        self.state_dir = state or folder / "state"
        self.socket = folder / "run" / "control.sock"
        self.config = folder / "config.toml"
        self.log = folder / "agent.log"
        self.environment = {**ENVIRONMENT, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.targets: dict[str, Target] = {}
        if state is None:
            self.state_dir.mkdir(mode=0o700, exist_ok=True)
        self._window = window
        names = list(targets)
        self._rules = [*names, *rules]
        self.configure(more)
        for name in names:
            self.target(name)

    def configure(self, more: str = "", *, window: str = "") -> None:
        """Nothing of the host's is watched but what has a rule here."""
        rules = "".join(
            f'[[discovery.workload]]\ncommand = "{script_name(self.mark, name)}"\nname = "{name}"\n'
            for name in self._rules
        )
        first = "" if "[prometheus]" in more else "[prometheus]\nenabled = false\n"
        discovery = "" if "[discovery]" in more else "[discovery]\nlibraries = []\n"
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.state_dir}"\nruntime_dir = "{self.socket.parent}"\ngroup = ""\n'
            f'window = "{window or self._window}"\n{discovery}{first}{more}\n{rules}'
        )

    def target(self, name: str, code: str = BUSY, *arguments: str) -> Target:
        found = self.targets[name] = Target(self.folder, self.mark, name, code, *arguments)
        return found

    # -- life

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Not yet ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*EXCISE, "agent", "--config", self.config, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, process_group=0,
            )
        return self.process

    def start(self, *arguments: str) -> dict[str, Any]:
        """Answers."""
        self.spawn(*arguments)
        return self.until(lambda state: True)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9; what it had compiled for it too."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE_S)

    def stop(self) -> float:
        """SIGTERM. Seconds until it has ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_S) == 0, self.logged()
        return time.monotonic() - began

    def reload(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    # -- what it says

    def status(self) -> dict[str, Any]:
        """Raises ControlError."""
        return call(self.socket, "status", timeout_s=DEADLINE_S)

    def until(
        self, done: Callable[[dict[str, Any]], object], what: str = "", within_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        """The first state that satisfies it."""
        deadline = time.monotonic() + within_s
        state: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            assert self.alive(), self.logged()
            try:
                state = self.status()
            except ControlError:
                pass
            else:
                if done(state):
                    return state
            time.sleep(0.05)
        raise AssertionError(f"not within {within_s:.0f} s: {what}\n{state}\n{self.logged()}")

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def excise(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Another command of excise, its output in pipes."""
        return subprocess.Popen(
            [*EXCISE, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment, **options,
        )

    def items(self) -> list[Item]:
        """All that is in the spool, in order."""
        cursor = Cursor(self.state_dir / "spool", f"judge-{time.monotonic_ns()}")
        try:
            out: list[Item] = []
            while found := cursor.next(1000):
                out += found
                last = found[-1]
                cursor.ack(last.last if isinstance(last, Gap) else last.sequence)
            return out
        finally:
            cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.alive():
            self.kill()
        for target in self.targets.values():
            target.end()


def script_name(mark: str, name: str) -> str:
    """No other process of the host runs a script of that name."""
    return f"target-{mark}-{name}.py"


def workload(state: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Its row; {"windows": 0, "pids": []} where it is not watched."""
    return next((w for w in state["workloads"] if w["name"] == name), {"windows": 0, "pids": []})


def watches(*names: str, windows: int = 1) -> Callable[[Mapping[str, Any]], bool]:
    """For `until`: all of them have had so many windows."""
    return lambda state: all(workload(state, name)["windows"] >= windows for name in names)


def numbers(items: Iterable[Item]) -> list[int]:
    """Those that the items stand for, in their order."""
    return [n for i in items for n in ([i.sequence] if isinstance(i, Entry) else range(i.first, i.last + 1))]


def lost(items: Iterable[Item]) -> dict[str, int]:
    """Windows by reason."""
    out: dict[str, int] = {}
    for gap in items:
        if isinstance(gap, Gap):
            out[gap.reason] = out.get(gap.reason, 0) + gap.last - gap.first + 1
    return out


def spans(items: Iterable[Item], name: str) -> list[tuple[int, int]]:
    """[start, end) of a workload's windows, CLOCK_MONOTONIC."""
    found = [e.summary.spans for e in items if isinstance(e, Entry) and e.workload.name == name]
    return [(min(s.start_mono_ns for s in all_), max(s.end_mono_ns for s in all_))
            for all_ in ([s for mine in spans.values() for s in mine] for spans in found)]


def pauses(found: list[tuple[int, int]]) -> int:
    """Between windows where the next does not begin where the last has ended, within what the governor takes to change
    the way of counting: 32 ms, measured on a loaded machine."""
    return sum(after[0] - before[1] > PAUSE_NS for before, after in itertools.pairwise(found))


def wait_until(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.02)
