"""Worker processes and threads belong to the target from their first tick to their last."""

from __future__ import annotations

import os
import signal
import time

import pytest

from excise.batch import Batch
from excise.names import KERNEL_STATE_ID

from .conftest import INTERPRETERS, Observe, Seen
from .dialogue import Dialogue

RUNNING = KERNEL_STATE_ID["running"]


def running_ns(seen: Seen, pids: set[int]) -> int:
    """CPU time of all threads of these processes."""
    return sum(int(t["state_ns"][RUNNING]) for t in seen.totals().values() if int(t["pid"]) in pids)


def functions(seen: Seen, pid: int) -> set[str | int]:
    """Names of the Python functions that were sampled in a process."""
    return {frame[0] for row in seen.rows() if int(row["pid"]) == pid and row["state"] == RUNNING
            for frame in seen.named(row)}


def test_every_short_lived_fork_appears_with_its_own_cpu_time(observe: Observe) -> None:
    with Dialogue("tree.py", "forks") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go())
        cpu_ns = {int(pid): ns for pid, ns in target.told["cpu_ns"].items()}
    assert len(cpu_ns) == 37
    assert cpu_ns.keys() <= seen.processes.keys()
    assert {seen.processes[pid].parent for pid in cpu_ns} == {target.pid}
    assert {seen.processes[pid].python for pid in cpu_ns} == {seen.processes[target.pid].python}
    for pid, ns in cpu_ns.items():
        assert running_ns(seen, {pid}) == pytest.approx(ns, rel=0.05, abs=1e6)
    assert running_ns(seen, set(cpu_ns)) == pytest.approx(sum(cpu_ns.values()), rel=0.02)
    assert all("burn" in functions(seen, pid) for pid in cpu_ns)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_are_watched_with_their_python_frames(method: str, observe: Observe) -> None:
    with Dialogue("tree.py", "pool", method) as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go())
        pids = set(target.told["pids"])
    assert pids <= seen.processes.keys()
    for pid in pids:
        assert "burn" in functions(seen, pid)
        assert running_ns(seen, {pid}) > 0.29e9
    if method != "forkserver":  # which reaps them there
        others = {int(t["pid"]) for t in seen.totals().values()} - {target.pid}
        assert running_ns(seen, others) == pytest.approx(target.told["cpu_ns"], rel=0.1)


def another(python: str) -> str:
    """An interpreter of another version."""
    return next(path for path in INTERPRETERS.values() if path != python)


def test_another_python_is_walked_within_250_ms_after_exec_and_the_gap_is_counted(
    python: str, observe: Observe
) -> None:
    with Dialogue("tree.py", "run", python, python=another(python)) as target:
        target.hear()
        seen = observe(target.pid, 30, rate_hz=499, stop=target.done_after_go())
        child = target.told["pid"]
    assert {"early", "late"} <= functions(seen, child)
    assert seen.processes[child].python == version(python)
    assert seen.processes[child].parent == target.pid
    assert seen.lost["exec_gap"] > 0
    late = [r for r in seen.rows() if int(r["pid"]) == child and "late" in str(seen.named(r))]
    assert sum(int(r["count"]) for r in late) > 20


def version(python: str) -> str:
    return next(name.split()[0] for name, path in INTERPRETERS.items() if path == python)


@pytest.mark.parametrize("mode", ["exec_self", "exec_from_thread"])
def test_a_target_that_execs_is_watched_on(mode: str, observe: Observe) -> None:
    with Dialogue("tree.py", mode) as target:
        target.hear()
        seen = observe(target.pid, 30, rate_hz=499, stop=target.done_after_go())
        told = target.told
    assert told["pid"] == target.pid
    assert {"early", "late"} <= functions(seen, target.pid)
    totals = seen.totals()[target.pid]
    assert totals["state_ns"][RUNNING] > 0.98 * told["cpu_ns"]
    # the image's own start is counted too, and no more than that
    assert totals["state_ns"][RUNNING] < told["cpu_ns"] + 0.5e9
    assert totals["lifetime_ns"] == totals["state_ns"].sum()
    if mode == "exec_from_thread":  # the number went to another thread, whose clock the kernel's file is now
        assert totals["sched_running_ns"] == -1
    else:
        assert totals["lifetime_ns"] == seen.span_ns


def test_children_are_left_alone_when_nobody_asked_for_them(observe: Observe) -> None:
    with Dialogue("tree.py", "pool", "fork") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go(), children=False)
        assert set(seen.processes) == {target.pid}
        assert {int(t["pid"]) for t in seen.totals().values()} == {target.pid}
        assert {int(r["pid"]) for r in seen.rows()} == {target.pid}


def test_children_and_grandchildren_from_before_belong_to_the_target(observe: Observe) -> None:
    with Dialogue("tree.py", "old_children") as target:
        parents = {int(child): parent for child, parent in target.hear()["parents"].items()}
        seen = observe(target.pid, 30, stop=target.done_after_go())
        for pid in target.told["burning"]:
            assert running_ns(seen, {pid}) == pytest.approx(0.2e9, rel=0.05)
            assert "burn" in functions(seen, pid)
    assert {pid: seen.processes[pid].parent for pid in parents} == parents


def test_threads_that_are_born_and_die_within_the_window_keep_their_totals(observe: Observe) -> None:
    with Dialogue("tree.py", "short_threads") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go())
        cpu_ns = {int(tid): ns for tid, ns in target.told["cpu_ns"].items()}
    assert len(cpu_ns) == 53
    totals = seen.totals()
    assert cpu_ns.keys() <= totals.keys()
    assert all(seen.threads[tid].carrier for tid in cpu_ns)
    ran_ns = sum(int(totals[tid]["state_ns"][RUNNING]) for tid in cpu_ns)
    assert ran_ns == pytest.approx(sum(cpu_ns.values()), rel=0.02)
    for tid in cpu_ns:
        assert totals[tid]["lifetime_ns"] == totals[tid]["state_ns"].sum()


def test_a_pid_that_is_used_again_at_once_loses_no_time(observe: Observe) -> None:
    with Dialogue("tree.py", "reused_pid") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go())
        told = target.told
    assert running_ns(seen, {told["pid"]}) == pytest.approx(told["cpu_ns"], rel=0.03)
    assert "burn" in functions(seen, told["pid"])


def test_the_end_of_the_target_ends_the_watch_and_its_time_is_told(observe: Observe) -> None:
    with Dialogue("tree.py", "ends") as target:
        target.hear()

        def finish(_seen: Seen) -> bool:
            if target.told is None or "cpu_ns" not in target.told:
                target.say()
                target.hear()
                target.say("end")
            return False

        began = time.monotonic()
        seen = observe(target.pid, 30, stop=finish)
        assert time.monotonic() - began < 10
    assert seen.end.reason == "target exited"
    assert running_ns(seen, {target.pid}) > 0.19e9
    assert "burn" in functions(seen, target.pid)


def test_a_child_outlives_the_target_and_is_watched_without_hurry(observe: Observe) -> None:
    with Dialogue("tree.py", "leaves_a_child") as target:
        target.hear()
        cpu_s: list[float] = []

        def end_the_child(seen: Seen) -> bool:
            if "child" not in target.told:
                target.say()
                target.hear()
                target.process.wait(10)
                cpu_s.append(time.process_time())
            elif len(cpu_s) == 1 and sum(isinstance(i, Batch) for i in seen.items) >= 3:
                cpu_s.append(time.process_time())
                os.kill(target.told["child"], signal.SIGKILL)
            return False

        began = time.monotonic()
        seen = observe(target.pid, 30, stop=end_the_child)
        assert time.monotonic() - began < 15
        child = target.told["child"]
    assert seen.end.reason == "target exited"
    assert seen.ns(child, "sleep") > 1e9
    assert cpu_s[1] - cpu_s[0] < 0.5


def test_a_process_lives_on_when_its_first_thread_ends(observe: Observe) -> None:
    with Dialogue("tree.py", "leader_ends") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go())
        told = target.told
    assert seen.end.reason == "interrupted"
    assert seen.ns(told["tid"], "running") == pytest.approx(told["cpu_ns"], rel=0.03)
    assert "burn" in functions(seen, target.pid)


def test_processes_beyond_the_map_are_counted(observe: Observe) -> None:
    from excise_agent.loader import Sizes

    with Dialogue("tree.py", "old_children") as target:
        target.hear()
        seen = observe(target.pid, 0.5, sizes=Sizes(procs=2))
    assert seen.lost["procs_untracked"] == 2


