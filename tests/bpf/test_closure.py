"""The ledger closes: every thread's states against a clock that is not ours, /proc/PID/task/TID/schedstat."""

from __future__ import annotations

from pathlib import Path

import pytest

from excise.names import KERNEL_STATES
from excise_agent.loader import Sizes

from .conftest import Observe, Seen, until
from .dialogue import Dialogue

MODES = ("gil", "pinned", "sleepers", "pingpong", "io")
WINDOW_S = 4.0


def agrees(seen: Seen, tid: int) -> None:
    """Running within 1 % + 1 ms, runnable within 2 % + 1 ms, and nothing missing."""
    row = seen.totals()[tid]
    said = {name: int(ns) for name, ns in zip(KERNEL_STATES, row["state_ns"], strict=True) if ns}
    assert said.get("running", 0) == pytest.approx(row["sched_running_ns"], rel=0.01, abs=1e6), said
    assert said.get("runnable", 0) == pytest.approx(row["sched_runnable_ns"], rel=0.02, abs=1e6), said
    assert sum(said.values()) == row["lifetime_ns"]
    # to the time that reading takes: a thread may switch meanwhile
    assert row["lifetime_ns"] == pytest.approx(seen.span_ns, abs=1e6)


def switches(pid: int, tids: list[int]) -> int:
    text = "".join(Path(f"/proc/{pid}/task/{tid}/status").read_text() for tid in tids)
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


@pytest.mark.parametrize("mode", MODES)
def test_states_are_the_schedulers(mode: str, observe: Observe) -> None:
    with Dialogue("closing.py", mode) as target:
        tids = target.hear()["tids"]
        before = switches(target.pid, tids)
        seen = observe(target.pid, WINDOW_S)
        if mode == "pingpong":
            assert switches(target.pid, tids) - before > 1000 * WINDOW_S
    for tid in tids:
        agrees(seen, tid)


@pytest.mark.parametrize("mode", ["gil", "pingpong"])
def test_lost_records_change_no_total(mode: str, observe: Observe) -> None:
    with Dialogue("closing.py", mode) as target:
        tids = target.hear()["tids"]
        seen = observe(target.pid, WINDOW_S, sizes=Sizes(drop_one_in=2))
    for tid in tids:
        agrees(seen, tid)
    kept = sum(int(row["count"]) for row in seen.rows())
    assert seen.lost["ring_full"] == pytest.approx(kept, rel=0.2)


def test_two_thousand_threads_are_watched(observe: Observe) -> None:
    with Dialogue("closing.py", "many") as target:
        tids = target.hear()["tids"]
        until(lambda: all(sleeps(target.pid, tid) for tid in tids), "all sleep")
        seen = observe(target.pid, 1.0)
    assert len(tids) == 2000
    assert not seen.lost
    totals = seen.totals()
    for tid in tids:
        assert totals[tid]["state_ns"][KERNEL_STATES.index("sleep")] == totals[tid]["lifetime_ns"]
        assert totals[tid]["sched_running_ns"] == 0


def sleeps(pid: int, tid: int) -> bool:
    return Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()[0] in ("35", "230")


def test_threads_beyond_the_map_are_counted(observe: Observe) -> None:
    with Dialogue("closing.py", "many") as target:
        threads = len(target.hear()["tids"]) + 1
        seen = observe(target.pid, 1.0, sizes=Sizes(threads=64))
    assert len(seen.totals()) == 64
    assert seen.lost["threads_untracked"] == threads - 64


