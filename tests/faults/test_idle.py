"""With nothing to watch the agent sleeps; what that costs in time is measured by tests/bench/agent_idle.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from daemon.harness import AgentRun

LOOKS = 3  # at the host's processes, one a second or less often
MOST_WAKEUPS_A_LOOK = 4
MOST_WAKEUPS_AN_ANSWER = 4


@pytest.mark.bpf
def test_an_idle_agent_wakes_for_its_looks_and_for_hardly_anything_else(tmp_path: Path) -> None:
    with AgentRun(tmp_path, "[prometheus]\nlisten = \"127.0.0.1:0\"\n") as run:
        run.start()
        state = run.until(lambda s: s["discovery"]["looks"] >= 2)
        assert not state["probes"]["attached"]
        looks, wakeups = state["discovery"]["looks"], switches(run.pid)
        asked = 0
        while state["discovery"]["looks"] < looks + LOOKS:
            state = run.until(lambda _: True)
            asked += 1
            time.sleep(0.3)
        most = MOST_WAKEUPS_A_LOOK * (LOOKS + 1) + MOST_WAKEUPS_AN_ANSWER * asked
        assert switches(run.pid) - wakeups <= most


def switches(pid: int) -> int:
    """How often its threads went to sleep."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
