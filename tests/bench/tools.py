"""Rows: the server's throughput beside each profiler, and the profiler's own CPU, in one run."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hosts import Demo, cpu_s
from numbers_of import Row, interval_of_mean, interval_of_ratio, median
from plan import Plan
from watching import Watching

SETTLE_S = 0.7  # none of the other tools says when it begins
COMMANDS = {
    "py-spy, blocking, 100 Hz": "py-spy record --rate 100 --format raw -o {out} --pid {pid}",
    "py-spy, nonblocking, 100 Hz": "py-spy record --nonblocking --rate 100 --format raw -o {out} --pid {pid}",
    "austin, 100 Hz": "austin -i 10000 -o {out} -p {pid}",
    "perf -g, 99 Hz": "perf record -e cpu-clock -F 99 -g -o {out} -p {pid}",
}
MISSING = {"austin": "pip install --group bench", "perf": "apt install linux-perf", "py-spy": "make venv"}


class Nothing(contextlib.nullcontext[None]):
    pid = None


class Tool:
    """A profiler that samples until it is interrupted; sampling when entered. RuntimeError: it did not."""

    def __init__(self, command: list[str], output: Path) -> None:
        self._command, self._output = command, output
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.pid = self._process.pid

    def __enter__(self) -> Tool:
        time.sleep(SETTLE_S)
        if self._process.poll() is not None:
            self._fail("ended early")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        if not self._output.exists() or not self._output.stat().st_size:  # one that saw nothing costs nothing
            self._fail("wrote no profile")
        self._output.unlink()

    def _fail(self, what: str) -> None:
        assert self._process.stderr is not None
        raise RuntimeError(f"{' '.join(self._command)} {what}: {self._process.stderr.read().decode()}")


Beside = Nothing | Tool | Watching


def rows(plan: Plan, demo: Demo, folder: Path) -> Iterator[Row]:
    """Blocks in random order within a round; what a block is compared with lies in the same round."""
    cases: dict[str, Callable[[], Beside]] = {
        "nothing": Nothing,
        "nothing again (A/A)": Nothing,
        "excise, 99 Hz": lambda: Watching(demo.pid, plan.block_s + 0.2),
    }
    for name, template in COMMANDS.items():
        output = folder / "profile"
        command = template.format(out=output, pid=demo.pid).split()
        found = _find(command[0])
        if found is None:
            yield Row(name, "not measured", "", f"{command[0]} is not installed: {MISSING[command[0]]}")
        else:
            cases[name] = partial(Tool, [found, *command[1:]], output)
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
    for _ in range(plan.blocks):
        for name in random.sample(list(cases), len(cases)):
            seen[name].append(_block(plan, demo, cases[name]))
    how = f"{plan.blocks} blocks of {plan.block_s:g} s in random order"
    base = list(zip(*seen["nothing"], strict=True))
    yield Row("requests, nothing attached", f"{median(base[0]):.1f}", "requests/s", f"median of {how}")
    for name in list(cases)[1:]:
        requests, cpu, own = zip(*seen[name], strict=True)
        for what, series, theirs in (("requests", requests, base[0]), ("server CPU a request", cpu, base[1])):
            ratio, low, high = interval_of_ratio(series, theirs)
            interval = f"95 % interval {low:.3f} to {high:.3f}, bootstrap over rounds; {how}"
            yield Row(f"{name}: {what}", f"{ratio:.3f}", "ratio to nothing", interval)
        if "A/A" not in name:
            mean, low, high = interval_of_mean(own)
            yield Row(
                f"{name}: its own CPU",
                f"{100 * mean:.2f} %",
                "of a core",
                f"95 % interval {100 * low:.2f} to {100 * high:.2f}, its process's CPU clock within the blocks",
            )


def _block(plan: Plan, demo: Demo, case: Callable[[], Beside]) -> tuple[float, float, float]:
    """Requests a second, the server's CPU seconds a request, the tool's own cores."""
    beside = case()
    with beside:
        own = cpu_s(beside.pid) if beside.pid else 0.0
        requests, server_s = demo.during(plan.block_s)
        own = cpu_s(beside.pid) - own if beside.pid else 0.0
    return requests / plan.block_s, server_s / max(requests, 1), own / plan.block_s


def versions() -> list[str]:
    """What each tool says of itself."""
    out = []
    for program in MISSING:
        found = _find(program)
        if found:
            said = subprocess.run([found, "--version"], stdout=subprocess.PIPE, text=True, check=False).stdout
            out.append(said.strip())
    return out


def _find(program: str) -> str | None:
    beside = Path(sys.executable).with_name(program)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(program)
