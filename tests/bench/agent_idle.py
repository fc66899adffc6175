"""What the agent costs: with nothing to watch, and with 20 processes. `python tests/bench/agent_idle.py [SECONDS]`

As root, on a host that is otherwise idle. CPU time of the agent and of its children as the kernel counts it.
"""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from daemon.harness import AgentRun, watches
from faults.test_idle import switches

SECONDS = 60.0
IDLE_GOAL = 0.001  # of a core
TARGETS = 20
WARM_WINDOWS = 4  # of 10 s: the governor has found its step

SERVING = """
import time
while True:
    until = time.thread_time() + 0.001
    while time.thread_time() < until:
        sum(range(500))
    time.sleep(0.049)
"""
"""A fiftieth of a core each, 20 requests a second."""


def cpu_s(pid: int) -> float:
    """Of its threads, by the scheduler's clock. Children, which live while it starts, are left out."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def measured(run: AgentRun, seconds: float) -> tuple[float, float]:
    """Share of a core, and sleeps a second."""
    before, slept, began = cpu_s(run.pid), switches(run.pid), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return (cpu_s(run.pid) - before) / took, (switches(run.pid) - slept) / took


def host() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} x {model}, Linux {os.uname().release}, Python {sys.version.split()[0]}, "
            f"{datetime.datetime.now(datetime.UTC).date()}, load {load:.1f} at the start")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    print(host())
    with tempfile.TemporaryDirectory() as folder, AgentRun(Path(folder), "[discovery]\n") as run:
        run.start()
        run.until(lambda s: s["discovery"]["looks"] >= 5)
        if run.status()["probes"]["attached"]:
            sys.exit("this host has processes that map a model runtime: stop them first")
        share, sleeps = measured(run, seconds)
        processes = run.status()["discovery"]["processes"]
        print(f"idle: {share:.3%} of a core (goal {IDLE_GOAL:.1%}), {sleeps:.1f} wakeups/s, {processes} processes, "
              f"{seconds:.0f} s")
    names = [f"server{i}" for i in range(TARGETS)]
    with tempfile.TemporaryDirectory() as folder, AgentRun(Path(folder), rules=names, window="10s") as run:
        for name in names:
            run.target(name, SERVING)
        run.start()
        run.until(watches(*names))
        warm_s = WARM_WINDOWS * 10.0
        time.sleep(warm_s)
        before = run.status()["cost"]
        share, sleeps = measured(run, seconds)
        state = run.status()
        cost = state["cost"]
        target = cost["target_cpu_ns"] - before["target_cpu_ns"]
        parts = {
            part: now * cost["target_cpu_ns"] - then * before["target_cpu_ns"]
            for part in ("agent", "bpf", "tick")
            for now, then in [(cost[f"{part}_cpu_ratio"], before[f"{part}_cpu_ratio"])]
        }
        ratio = sum(parts.values()) / target
        print(f"{TARGETS} processes, {target / seconds / 1e9:.2f} cores together: agent {share:.2%} of a core, "
              f"{sleeps:.1f} wakeups/s; by its own account {ratio:.2%} of their CPU "
              f"({', '.join(f'{name} {ns / target:.2%}' for name, ns in parts.items())}), "
              f"budget {state['budget_ratio']:.0%}, sees {cost['governor']['step']!r}")


if __name__ == "__main__":
    main()
