"""Targets that overwrite their interpreter's state while they are watched: the agent does not crash, hang or grow, the
target lives on, and others keep their names."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpython.conftest import INTERPRETERS
from excise.source import replay
from excise.stages import Rules
from security.running_agent import EXCISE, RunningAgent, environment, until
from security.scribblers import MODES, Scribbler, build_library

MOST_RSS_BYTES = 400 << 20  # an agent that watches a quiet process takes 180 MB
MOST_CPU_S = 20.0  # for 2 s of watching, and the start; before there was a bound it took minutes
DEADLINE_S = 60.0
ORDINARY = """
import time
def does_ordinary_work():
    for n in range(20000): n * n
    time.sleep(0.002)
print(flush=True)
while True:
    does_ordinary_work()
"""

pytestmark = pytest.mark.bpf


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("scribble"))


@pytest.fixture
def ordinary(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = folder / "ordinary.py"
    script.write_text(ORDINARY)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"\n"
    yield process
    process.kill()
    process.communicate()


def attach(pid: int, *options: str) -> tuple[int, str, float, int]:
    """Exit code, what it said, and what it took: CPU seconds and bytes."""
    process = subprocess.Popen([*EXCISE, "attach", "--pid", str(pid), "--no-agent", "--quiet", *options],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
    timer = threading.Timer(DEADLINE_S, process.kill)
    timer.start()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, said, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10


@pytest.mark.parametrize(
    ("version", "mode"), [("3.11", "random"), ("3.11", "lists"), ("3.13", "flood"), ("3.13", "cycle")])
def test_what_was_scribbled_before_is_survived(version: str, mode: str, library: Path, folder: Path) -> None:
    python = next(path for found, path in INTERPRETERS.items() if found.startswith(version))
    target = Scribbler(python, library)
    try:
        target.begin(mode, start=int(version[2:]))
        code, said, cpu_s, rss = attach(target.pid, "-d", "2s", "--budget", "none", "--record",
                                           str(folder / "run.excise"))
        assert code == 0 and "Traceback" not in said, said
        assert cpu_s < MOST_CPU_S and rss < MOST_RSS_BYTES
        assert target.alive()
    finally:
        target.end()
    report = replay(str(folder / "run.excise"), Rules.load([]))
    assert 0 <= report.total_ns() <= report.duration_ns + 1_000_000  # it has one thread


def test_a_process_that_scribbles_under_an_agent_does_not_disturb_it_or_its_neighbour(
    agent: RunningAgent, folder: Path, library: Path, ordinary: subprocess.Popen[bytes]
) -> None:
    agent.start('''[prometheus]
enabled = false
[[discovery.workload]]
name = "ordinary"
command = "ordinary.py"
[[discovery.workload]]
name = "scribblers"
command = "scribbler.py"
''')
    pythons = [*INTERPRETERS.values()] * 2
    targets = [Scribbler(python, library) for python in pythons[: len(MODES) + 1]]
    try:
        until(lambda: agent.windows("scribblers") >= 1 and agent.windows("ordinary") >= 1, "both are watched")
        for n, target in enumerate(targets):
            target.begin(MODES[n % len(MODES)], start=n)
        before = agent.windows("ordinary")
        until(lambda: agent.windows("ordinary") >= before + 6, "windows go on")
        state = agent.status()
        assert state["probes"]["trouble"] is None and state["probes"]["starts"] == 1
        assert state["agent"]["rss_bytes"] < MOST_RSS_BYTES
        assert all(target.alive() for target in targets)
        record = folder / "asked.excise"
        done = agent.excise("attach", "--pid", str(ordinary.pid), "-d", "2s", "--quiet", "--record", str(record),
                            "--socket", str(agent.socket))
        assert done.returncode == 0, done.stderr
        agent.stop()
    finally:
        for target in targets:
            target.end()
    assert "Traceback" not in agent.log.read_text()
    report = replay(str(record), Rules.load([]))
    names = {frame.name for stack in report.stacks for frame in stack.frames if frame.kind == "python"}
    assert "does_ordinary_work" in names
    assert names <= {"does_ordinary_work", "<module>", ""}


def test_strange_files_in_place_of_libraries_are_survived(folder: Path) -> None:
    script = Path(__file__).parent / "targets" / "maps_strange_files.py"
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE) as target:
        try:
            assert target.stdout is not None and target.stdout.readline() == b"ready\n"
            code, said, cpu_s, rss = attach(target.pid, "-d", "2s", "--budget", "none", "--rate", "499", "--record",
                                            str(folder / "run.excise"), "--flame", str(folder / "flame.html"))
            assert code == 0 and "Traceback" not in said, said
            assert cpu_s < MOST_CPU_S and rss < MOST_RSS_BYTES
            assert target.poll() is None
        finally:
            target.kill()
    report = replay(str(folder / "run.excise"), Rules.load([]))
    files = {Path(frame.file).name for stack in report.stacks for frame in stack.frames if frame.kind == "native"}
    assert {"libsparse.so", "libpipe.so", "libloop.so"} <= files, files
