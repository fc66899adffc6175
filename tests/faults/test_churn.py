"""Targets start and die by the minute, also while they are being looked at."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.harness import ROOT, AgentRun, lost, numbers, script_name, wait_until, watches, workload
from excise.spool import Entry
from faults.scale import CHURN_S, CHURN_TARGETS

LIFE_S = (0.05, 8.0)
SEEN_LOOKS = 3  # at the host's processes: who lives through so many is watched, and who is watched has a summary
WARM = 0.4  # of the run, before memory is looked at
MOST_GROWTH_BYTES = 12_000_000  # of the later part: names of new workloads, arenas
QUICK_S = 6.0  # of the loop, on a loaded machine; a watchdog waits longer

SHORT = """
import mmap, os, sys, time
until = time.monotonic() + float(sys.argv[2])
file = open(sys.argv[3], "rb")
mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
while time.monotonic() < until:
    sum(range(2000))
    time.sleep(0.01)
os._exit(0)
"""


@dataclass
class Short:
    name: str
    process: subprocess.Popen[bytes]
    ends_s: float  # monotonic
    looks: int  # of the agent when it began; from its end on: while it lived


@dataclass
class Holdings:
    rss_bytes: int
    descriptors: int
    map_bytes: int


def holdings(pid: int) -> Holdings:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    maps = 0
    fds = os.listdir(f"/proc/{pid}/fdinfo")
    for fd in fds:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines():
                maps += int(line.split()[1]) if line.startswith("memlock:") else 0
    return Holdings(pages * os.sysconf("SC_PAGE_SIZE"), len(fds), maps)


@pytest.mark.bpf
def test_targets_that_come_and_go_leave_nothing_and_have_their_summaries(tmp_path: Path) -> None:
    draw = random.Random(CHURN_TARGETS)
    library = tmp_path / "libtorch_cpu.so"
    library.write_bytes(bytes(8192))
    names = [f"t{i}" for i in range(CHURN_TARGETS)]
    more = f'[discovery]\nlibraries = ["libtorch_cpu.so"]\nmost_workloads = {CHURN_TARGETS + 2}\n'
    with AgentRun(tmp_path, more, targets=["steady"], rules=names) as run:
        run.start()
        state = run.until(watches("steady"))
        live: list[Short] = []
        done: list[Short] = []
        readings: list[Holdings] = []
        watched: set[str] = set()
        slowest_s = 0.0
        began = time.monotonic()
        try:
            while len(done) < CHURN_TARGETS:
                now = time.monotonic()
                made = len(live) + len(done)
                if made < CHURN_TARGETS and now >= began + CHURN_S * made / CHURN_TARGETS:
                    live.append(short(run, names[made], draw.uniform(*LIFE_S), library, draw, state))
                for target in [t for t in live if t.process.poll() is not None or now > t.ends_s]:
                    target.process.kill()
                    target.process.wait()
                    target.looks = looks(state) - target.looks
                    live.remove(target)
                    done.append(target)
                asked = time.monotonic()
                state = run.status()
                watched |= {w["name"] for w in state["workloads"]}
                slowest_s = max(slowest_s, time.monotonic() - asked)
                if len(done) >= WARM * CHURN_TARGETS:
                    readings.append(holdings(run.pid))
                time.sleep(0.02)
        finally:
            for target in live:
                target.process.kill()
                target.process.wait()
        state = run.until(lambda s: [w["name"] for w in s["workloads"]] == ["steady"], "only the steady one is left")
        assert workload(state, "steady")["pids"] == [run.targets["steady"].pid]
        assert state["probes"]["starts"] == 1 and not state["probes"]["trouble"], run.logged()
        assert run.targets["steady"].works()
        end = holdings(run.pid)
        run.stop()

        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1)) and set(lost(items)) <= {"unused"}
        seen = {e.workload.name for e in items if isinstance(e, Entry)}
        assert {t.name for t in done if t.looks >= SEEN_LOOKS} <= watched <= seen
        assert slowest_s < QUICK_S
        assert len({r.map_bytes for r in readings}) == 1
        assert end.descriptors <= min(r.descriptors for r in readings) + 3, (end, readings)
        assert end.rss_bytes - readings[0].rss_bytes < MOST_GROWTH_BYTES, (end, readings[0])
        print(f"slowest answer {slowest_s:.2f} s; {readings[0]} -> {end}; {len(seen)} of {len(done)} seen")


def looks(state: dict[str, Any]) -> int:
    found: int = state["discovery"]["looks"]
    return found


def short(
    run: AgentRun, name: str, life_s: float, library: Path, draw: random.Random, state: dict[str, Any]
) -> Short:
    """Ends by itself, or is killed."""
    script = run.folder / script_name(run.mark, name)
    script.write_text(SHORT)
    now = time.monotonic()
    killed_s = life_s * draw.choice((0.3, 0.6, 2.0))
    process = subprocess.Popen([sys.executable, "-S", script, "", str(life_s), library], process_group=0)
    return Short(name, process, now + killed_s, looks(state))


HOP = """
import os, sys, time
n = int(sys.argv[2])
if n:
    time.sleep(0.01 * (n % 7))
    os.execv(sys.executable, [sys.executable, "-S", sys.argv[0], sys.argv[1], str(n - 1)])
while True:
    time.sleep(0.005)
"""


@pytest.mark.bpf
def test_targets_that_exec_stand_still_or_are_killed_at_once_are_no_trouble(tmp_path: Path) -> None:
    draw = random.Random(5)
    with AgentRun(tmp_path, targets=["steady"], rules=["hops", "stopped", "killed"]) as run:
        run.start()
        run.until(watches("steady"))
        hops = run.target("hops", HOP, "60")  # a new image every 30 ms, for 2 s and more
        stopped = run.target("stopped")
        os.kill(stopped.pid, signal.SIGSTOP)  # perhaps before it has an interpreter
        try:
            for _ in range(12):
                killed = run.target("killed")
                wait_until(lambda killed=killed: killed.turns() or killed.process.poll() is not None, "it works")
                time.sleep(draw.uniform(0.0, 1.2))  # before it is found, while it is, after
                killed.end()
            run.until(watches("hops", "stopped", windows=2))
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.works() and hops.process.poll() is None
        state = run.until(lambda s: not workload(s, "killed")["pids"], "the killed ones are let go")
        assert state["probes"]["starts"] == 1 and not state["probes"]["trouble"], run.logged()
        run.stop()
        items = run.items()
        assert numbers(items) == list(range(1, len(numbers(items)) + 1)) and set(lost(items)) <= {"unused"}


@pytest.mark.bpf
def test_who_watches_is_not_watched_though_its_parent_is(tmp_path: Path) -> None:
    code = """
import os
from excise_agent.attach import Options, Watch
watch = Watch(Options(os.getppid(), 1.0, 0.0), lambda item: None)
watch.start()
print(os.getppid() in watch.pids(), os.getpid() in watch.pids())
watch.close()
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'agent'}"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.split() == ["True", "False"]
