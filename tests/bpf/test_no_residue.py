"""However Excise ends, nothing of it stays, and the target does not notice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent.loader import SWITCH_HOOKS, TRACEPOINTS

from .conftest import until
from .dialogue import Dialogue
from .kernel_objects import anonymous_descriptors, ids, ids_of, program_name

PROGRAMS = {"on_cpu", *TRACEPOINTS, *SWITCH_HOOKS}
GRACE_S = 30.0  # of the kernel: programs after a grace period, maps from a work queue; a busy host delays both
ROUNDS = 20
COMMAND = [*(sys.executable, "-m", "excise_agent.cli", "attach"), "--duration", "60s", "--budget", "none", "--quiet"]


@pytest.fixture(scope="module")
def server() -> Iterator[Dialogue]:
    with Dialogue("http_server.py") as target:
        target.hear()
        yield target
        target.say()
        counts = target.hear()
        assert counts["failed"] == 0
        assert counts["answered"] > 1000


@contextlib.contextmanager
def attaching(pid: int, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`excise attach` in a process of its own, in a group of its own."""
    process = subprocess.Popen(
        [*COMMAND, "--pid", str(pid), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def watches(process: subprocess.Popen[str]) -> bool:
    """Whether its timers run: then all programs are loaded and attached."""
    assert process.poll() is None, process.communicate()[1]
    held = anonymous_descriptors(process.pid)
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    # during the start a signal ends it at once; then it is caught, to report first
    return "anon_inode:[perf_event]" in held and bool(caught >> (signal.SIGINT - 1) & 1)


def assert_gone(had: dict[str, set[int]], killed_at: float) -> None:
    """Frees are deferred in the kernel (RCU): GRACE_S at most."""
    for kind in ("programs", "links", "maps"):
        while left := had[kind] & ids(kind):
            assert time.monotonic() - killed_at < GRACE_S, (kind, left)
            os.sched_yield()


def group_members(group: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_kill_leaves_nothing(server: Dialogue, _round: int) -> None:
    with attaching(server.pid) as process:
        until(lambda: watches(process), "it watches")
        had = ids_of(process.pid)
        assert {program_name(i) for i in had["programs"]} == {name[:15] for name in PROGRAMS}
        assert len(had["maps"]) >= 7
        assert len(had["links"]) == len(TRACEPOINTS) + len(SWITCH_HOOKS)
        process.kill()
        process.wait()
        assert_gone(had, time.monotonic())
        assert group_members(process.pid) == []


def test_kill_while_compiling_leaves_no_compiler_behind(server: Dialogue, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with attaching(server.pid, CACHE_DIRECTORY=str(cache)) as process:
        until(lambda: bool(children(process.pid)), "it compiles")
        process.kill()
        process.wait()
        began = time.monotonic()
        until(lambda: group_members(process.pid) == [], "the compiler ends")
        assert time.monotonic() - began < 10
    assert not list(cache.glob("probes-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_with_the_report(server: Dialogue, number: signal.Signals) -> None:
    with attaching(server.pid, "--json", "-") as process:
        until(lambda: watches(process), "it watches")
        had = ids_of(process.pid)
        os.kill(process.pid, number)
        said, complained = process.communicate(timeout=20)
        assert_gone(had, time.monotonic())
    assert process.returncode == 0, complained
    assert json.loads(said)["schema"].startswith("excise.report/")
    assert "Traceback" not in complained


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_start_ends_it_in_silence(
    server: Dialogue, tmp_path: Path, number: signal.Signals
) -> None:
    with attaching(server.pid, CACHE_DIRECTORY=str(tmp_path / "cache")) as process:
        until(lambda: bool(children(process.pid)), "it compiles")
        os.killpg(process.pid, number)  # as a terminal does
        said, complained = process.communicate(timeout=20)
        until(lambda: group_members(process.pid) == [], "the compiler ends too")
    assert process.returncode in (-number, 130, 128 + number)
    assert said == ""
    assert "Traceback" not in complained
