"""Totals from phases: what is left of a thread's life beside the scheduler's counts, split as the phases saw it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import THREAD_DTYPE
from excise_agent.edges import Edge, edge_of
from excise_agent.phases import OTHER, PhasedWindow, blocked_states

GIL, NET, SLEEP, RUNNING, RUNNABLE = (KERNEL_STATE_ID[n] for n in ("gil", "net", "sleep", "running", "runnable"))
MS = 1_000_000
KEY = (7, 8)


def phase(**states: int) -> NDArray[np.int64]:
    out = np.zeros(len(KERNEL_STATES), np.int64)
    for name, ns in states.items():
        out[KERNEL_STATE_ID[name]] = ns
    return out


seen_phases = st.lists(
    st.builds(phase, gil=st.integers(0, 10**8), net=st.integers(0, 10**8), sleep=st.integers(0, 10**8)), max_size=12
)


@given(st.integers(0, 10**11), seen_phases, st.integers(0, len(KERNEL_STATES) - 1))
def test_the_split_closes(blocked_ns: int, phases: list[NDArray[np.int64]], state: int) -> None:
    state_ns, se_ns = blocked_states(blocked_ns, phases, state)
    assert int(state_ns.sum()) == blocked_ns
    assert (state_ns >= 0).all() and (se_ns >= 0).all()


def test_the_error_covers_the_truth_as_often_as_it_says() -> None:
    """Waits of two kinds in random order; a phase sees 40 of them. Two standard errors hold the truth in 95 of 100."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        truth = rng.uniform(0.2, 0.8)
        phases = []
        for _ in range(10):
            lengths, kind = rng.exponential(1e6, 40), rng.random(40) < truth
            phases.append(phase(gil=int(lengths[kind].sum()), net=int(lengths[~kind].sum())))
        state_ns, se_ns = blocked_states(10**9, phases, OTHER)
        held += abs(state_ns[GIL] - truth * 1e9) <= 2 * se_ns[GIL]
    assert 0.88 <= held / 300 <= 0.99


def test_what_no_phase_saw_is_as_unsure_as_it_is_large() -> None:
    state_ns, se_ns = blocked_states(500, [], OTHER)
    assert state_ns[OTHER] == se_ns[OTHER] == 500


def edge(now_ns: int, phase_number: int, **fields: int) -> Edge:
    value = np.zeros(1, THREAD_DTYPE)
    value["pid"] = KEY[0]
    for name, number in fields.items():
        value[name] = number
    return edge_of(np.array([KEY[1]], np.uint32), value, now_ns, phase_number)


def window(state: int | None = None) -> PhasedWindow:
    looked = []

    def look(pid: int, tid: int) -> int | None:
        looked.append((pid, tid))
        return state

    out = PhasedWindow(look)
    out.open(edge(1000 * MS, 1, state=NET, since_ns=0, phase=1), {KEY: (50 * MS, 10 * MS, 4)})
    return out


def states_of(row: np.void) -> dict[str, int]:
    return {name: int(ns) for name, ns in zip(KERNEL_STATES, row["state_ns"], strict=True) if ns}


def test_running_and_runnable_are_the_schedulers_and_the_rest_is_what_was_seen() -> None:
    w = window()
    seen = edge(1200 * MS, 2, phase=2, state=RUNNING, since_ns=1200 * MS)
    seen.closed_ns[0, GIL] = seen.state_ns[0, GIL] = 30 * MS
    w.end_phase(seen, {KEY: (100 * MS, 20 * MS, 90)}, 50 * MS)
    (row,) = w.close(edge(2000 * MS, 3), {KEY: (450 * MS, 110 * MS, 200)})
    assert states_of(row) == {"running": 400 * MS, "runnable": 100 * MS, "gil": 500 * MS}
    assert row["lifetime_ns"] == 1000 * MS
    assert row["sched_running_ns"] == 400 * MS and row["sched_runnable_ns"] == 100 * MS


def test_a_thread_that_never_ran_is_still_in_its_wait_and_nobody_looks() -> None:
    w = window(state=None)
    for end in (1200, 1400):
        w.end_phase(edge(end * MS, 2, phase=1), {KEY: (50 * MS, 10 * MS, 4)}, 50 * MS)
    (row,) = w.close(edge(2000 * MS, 3, phase=1), {KEY: (50 * MS, 10 * MS, 4)})
    assert states_of(row) == {"net": 1000 * MS} and not row["se_ns"].any()


def test_a_thread_that_moved_on_unseen_is_looked_at() -> None:
    w = window(state=SLEEP)
    w.end_phase(edge(1200 * MS, 2, phase=1), {KEY: (60 * MS, 10 * MS, 5)}, 50 * MS)
    (row,) = w.close(edge(2000 * MS, 3, phase=1), {KEY: (60 * MS, 10 * MS, 5)})
    assert states_of(row) == {"running": 10 * MS, "sleep": 990 * MS}


def test_a_thread_that_ends_counts_to_its_end() -> None:
    w = window()
    last = edge(1500 * MS, 2, phase=1, end_ns=1400 * MS, end_exec_ns=250 * MS, end_delay_ns=10 * MS)
    w.bury(KEY, last, 0)
    (row,) = w.close(edge_of(np.zeros(0, np.uint32), np.zeros(0, THREAD_DTYPE), 2000 * MS, 3), {})
    assert row["lifetime_ns"] == 400 * MS and states_of(row)["running"] == 200 * MS
    assert row["sched_running_ns"] == -1


def test_a_thread_that_was_born_and_ended_between_two_looks_counts_to_its_end() -> None:
    w = PhasedWindow(lambda *_: None)
    w.open(edge_of(np.zeros(0, np.uint32), np.zeros(0, THREAD_DTYPE), 1000 * MS, 1), {})
    last = edge(2000 * MS, 1, phase=1, born_ns=1100 * MS, end_ns=1102 * MS, end_exec_ns=1 * MS)
    (row,) = w.close(last, {})
    assert row["lifetime_ns"] == 2 * MS


def test_a_thread_that_leaves_the_map_untold_counts_to_when_it_was_last_seen() -> None:
    w = window(state=SLEEP)
    w.end_phase(edge(1300 * MS, 2, phase=1), {KEY: (60 * MS, 10 * MS, 5)}, 50 * MS)
    (row,) = w.close(edge_of(np.zeros(0, np.uint32), np.zeros(0, THREAD_DTYPE), 2000 * MS, 3), {})
    assert row["lifetime_ns"] == 300 * MS


def test_waits_that_go_on_are_told_apart_from_those_that_nobody_walked() -> None:
    w = window(state=SLEEP)
    still = edge(1200 * MS, 2, phase=1, weight=256)
    assert w.end_phase(still, {KEY: (50 * MS, 10 * MS, 4)}, 50 * MS) == ([0], [])
    assert w.end_phase(still, {KEY: (60 * MS, 10 * MS, 9)}, 50 * MS) == ([], [0])


def test_a_thread_that_is_born_counts_from_its_birth() -> None:
    w = PhasedWindow(lambda *_: None)
    none = edge_of(np.zeros(0, np.uint32), np.zeros(0, THREAD_DTYPE), 1000 * MS, 1)
    w.open(none, {})
    (row,) = w.close(edge(2000 * MS, 3, phase=1, born_ns=1700 * MS), {KEY: (100 * MS, 0, 3)})
    assert row["lifetime_ns"] == 300 * MS
    assert states_of(row) == {"running": 100 * MS, "other": 200 * MS}
    assert row["se_ns"][OTHER] == pytest.approx(200 * MS)
