"""Real interpreters as targets: every one found on this machine, each running tests/targets/chain.py."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from excise_agent.cpython import Interpreter, Memory, detect

CHAIN = Path(__file__).parents[1] / "targets" / "chain.py"
REQUIRED = ("3.11", "3.12", "3.13")
DEADLINE_S = 20
BLOCKING = ("0", "23", "230", "270")  # read, select, clock_nanosleep, pselect6


def find_interpreters() -> dict[str, str]:
    """Version -> path of each interpreter, one a minor version, pyenv's first; Debian's as "system".

    EXCISE_TEST_PYTHONS adds more: paths with colons between (a wrapper script that sets PYTHONHOME will do).
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    paths = sorted(pyenv.glob("3.1[0-9]*/bin/python3"))
    extra = [Path(p) for p in os.environ.get("EXCISE_TEST_PYTHONS", "").split(":") if p]
    found: dict[str, str] = {}
    for path in (*paths, *extra, Path("/usr/bin/python3")):
        if not path.exists():
            continue
        ask = [path, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
        version = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
        found.setdefault(version if version not in found else f"{version} {path}", str(path))
    return found


INTERPRETERS = find_interpreters()


def pytest_report_header() -> str:
    return "cpython targets: " + ", ".join(f"{v} ({p})" for v, p in INTERPRETERS.items())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "python" in metafunc.fixturenames:
        metafunc.parametrize("python", INTERPRETERS.values(), ids=list(INTERPRETERS), scope="session")


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition that another process makes true."""
    deadline = monotonic() + DEADLINE_S
    while not condition():
        assert monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        os.sched_yield()


@dataclass
class Target:
    process: subprocess.Popen[str]
    python: str
    pid: int
    tid: int
    expect: list[list[str | int]]

    def blocks(self) -> bool:
        syscall = Path(f"/proc/{self.pid}/task/{self.tid}/syscall").read_text().split()[0]
        return syscall in BLOCKING

    @property
    def version(self) -> str:
        return subprocess.run([self.python, "-c", "import platform; print(platform.python_version())"],
                              capture_output=True, text=True, check=True).stdout.strip()


Start = Callable[..., Target]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts chain.py in a mode, and returns when its thread blocks where it says (unless it is to keep
    running).
    """
    started: list[Target] = []

    def run(python: str, mode: str, *, blocks: bool = True, script: Path = CHAIN) -> Target:
        process = subprocess.Popen([python, script, mode], stdout=subprocess.PIPE, encoding="ascii")
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], DEADLINE_S)
        line = process.stdout.readline() if ready else ""
        target = Target(process, python, process.pid, 0, [])
        started.append(target)
        assert line, f"{python} {mode} said nothing"
        told = json.loads(line)
        target.tid, target.expect = told["tid"], told["expect"]
        if not Path(f"/proc/{target.pid}/task/{target.tid}").exists():
            target.pid = _tgid(target.tid)  # it forked
        if blocks:
            until(target.blocks, "the target blocks")
        return target

    yield run
    for target in started:
        target.process.kill()
        assert target.process.stdout is not None
        target.process.stdout.close()
        target.process.wait(DEADLINE_S)


def _tgid(tid: int) -> int:
    match = re.search(r"^Tgid:\s+(\d+)$", Path(f"/proc/{tid}/status").read_text(), re.M)
    assert match
    return int(match[1])


@dataclass
class Attached:
    mem: Memory
    interp: Interpreter


@pytest.fixture
def attach() -> Iterator[Callable[[Target], Attached]]:
    opened: list[Memory] = []

    def run(target: Target) -> Attached:
        found = detect(target.pid)
        assert isinstance(found, Interpreter), found
        mem = Memory(target.pid)
        opened.append(mem)
        return Attached(mem, found)

    yield run
    for mem in opened:
        mem.close()
