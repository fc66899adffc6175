"""Windows: however time is cut, what the kernel counted and what its records say stays the same, to the nanosecond."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from switch_model import RUNNABLE, RUNNING, WAITS, History, Kernel, histories, summed, true_ns, window

from excise.names import KERNEL_STATE_ID
from excise.records import REC_WAIT, THREAD_DEAD, THREAD_DTYPE, THREAD_SNAPSHOT, WEIGHT_ONE
from excise.ring import ROW_DTYPE
from excise_agent.edges import STALE_WAKING_NS, Edge, edge_of, open_row

FUTEX, LOCK, NET = 202, KERNEL_STATE_ID["lock"], KERNEL_STATE_ID["net"]
fractions = st.lists(st.floats(0, 1), min_size=2, max_size=6)
any_history = histories(("after", "race", "spurious"), clock=True) | histories(("after",), clock=False)


def played(histories_: list[History]) -> list[Kernel]:
    out = []
    for i, history in enumerate(histories_):
        kernel = Kernel(pid=40, tid=41 + i, history=history)
        kernel.play()
        out.append(kernel)
    return out


def cuts(kernels: list[Kernel], at: list[float]) -> list[int]:
    """Moments that all threads have seen, up to a little after the last switch; in order."""
    first = max(k.history.start_ns for k in kernels)
    last = max(k.seen[-1][0] for k in kernels) + 1000
    return sorted(first + int(f * (last - first)) for f in at)


@given(st.lists(any_history, min_size=1, max_size=3), fractions)
@settings(max_examples=200, deadline=None)
def test_summed_windows_are_one_window(some: list[History], at: list[float]) -> None:
    kernels = played(some)
    moments = cuts(kernels, at)
    whole = window(kernels, moments[0], moments[-1])
    parts = summed([window(kernels, a, b) for a, b in pairwise(moments)])
    assert {t: n.tolist() for t, n in parts.totals.items()} == {t: n.tolist() for t, n in whole.totals.items()}
    assert parts.rows == whole.rows


@given(st.lists(any_history, min_size=1, max_size=3), fractions)
@settings(max_examples=200, deadline=None)
def test_a_window_accounts_for_all_of_a_threads_life_in_it(some: list[History], at: list[float]) -> None:
    kernels = played(some)
    start, *_, end = cuts(kernels, at)
    for kernel in kernels:
        assert window([kernel], start, end).totals[kernel.tid].sum() == true_ns(kernel, start, end).sum()


@given(histories(("after", "race"), clock=False), fractions)
@settings(max_examples=300, deadline=None)
def test_every_window_has_what_the_thread_did_in_it(history: History, at: list[float]) -> None:
    """By the wall clock, with wakings that are what they seem. A race is known for one only in hindsight."""
    (kernel,) = played([history])
    moments = cuts([kernel], at)
    for start, end in pairwise(moments):
        seen = window([kernel], start, end)
        true = true_ns(kernel, start, end)
        assert seen.totals[kernel.tid].tolist() == true.tolist()
        for state in WAITS:
            assert sum(ns for key, (ns, _) in seen.rows.items() if key[1] == state) == true[state]
        queued = sum(queue + (ns if key[1] == RUNNABLE else 0) for key, (ns, queue) in seen.rows.items())
        assert queued == true[RUNNABLE]


@given(st.lists(any_history, min_size=1, max_size=3), st.floats(0, 1))
@settings(deadline=None)
def test_an_edge_changes_nothing_that_it_was_given(some: list[History], at: float) -> None:
    kernels = played(some)
    (now,) = cuts(kernels, [at])
    values = np.array([k.at(now) for k in kernels], THREAD_DTYPE)
    before = values.tobytes()
    tids = np.array([k.tid for k in kernels], np.uint32)
    first, again = edge_of(tids, values, now), edge_of(tids, values, now)
    assert values.tobytes() == before
    assert all(np.array_equal(getattr(first, n), getattr(again, n)) for n in Edge.__dataclass_fields__)


def thread(**fields: int) -> np.ndarray:
    value = np.zeros(1, THREAD_DTYPE)
    value["weight"] = WEIGHT_ONE
    for name, number in fields.items():
        value[name] = number
    return value


def edge(now: int, **fields: int) -> Edge:
    return edge_of(np.array([7], np.uint32), thread(**fields), now)


def test_an_open_wait_is_a_row_that_folds_with_the_record_to_come() -> None:
    found = edge(150, state=LOCK, since_ns=100, in_ns=90, pid=5, stack=11, ip=13, syscall=FUTEX, fd=255, port=8000,
                 fd_class=3, wait_flags=2)
    (row,) = found.open_keys.view(ROW_DTYPE).reshape(-1)
    assert {name: int(row[name]) for name in row.dtype.names if name != "pad"} == {
        "type": REC_WAIT, "state": LOCK, "flags": 2, "fd_class": 3, "tid": 7, "pid": 5, "waker": 0, "syscall": FUTEX,
        "port": 8000, "fd": 255, "stack": 11, "kstack": 0, "ip": 13}
    assert found.open_sums.tolist() == [[0, 50, 0]]


def test_a_call_number_of_minus_one_stays_in_its_sixteen_bits() -> None:
    (row,) = edge(150, state=NET, since_ns=100, syscall=-1, fd=3).open_keys.view(ROW_DTYPE).reshape(-1)
    assert (row["syscall"], row["port"], row["fd"]) == (-1, 0, 3)


def test_an_open_wait_that_was_woken_is_split_at_the_waking() -> None:
    found = edge(150, state=LOCK, since_ns=100, in_ns=90, wake_ns=130)
    assert found.open_sums.tolist() == [[0, 30, 20]]
    assert found.state_ns[0, LOCK] == 30 and found.state_ns[0, RUNNABLE] == 20


def test_a_waking_before_the_switch_out_counts_only_while_the_thread_may_soon_be_back() -> None:
    soon = edge(100 + STALE_WAKING_NS, state=LOCK, since_ns=100, in_ns=90, wake_ns=95)
    late = edge(101 + STALE_WAKING_NS, state=LOCK, since_ns=100, in_ns=90, wake_ns=95)
    assert soon.open_sums.tolist() == [[0, 0, STALE_WAKING_NS]]
    assert late.open_sums.tolist() == [[0, STALE_WAKING_NS + 1, 0]]


def test_a_waking_of_an_earlier_wait_is_not_of_this_one() -> None:
    assert edge(150, state=LOCK, since_ns=100, in_ns=90, wake_ns=80).open_sums.tolist() == [[0, 50, 0]]


def test_a_running_thread_has_no_open_wait_but_its_time_counts() -> None:
    found = edge(150, state=RUNNING, since_ns=100, in_ns=100)
    assert len(found.open_keys) == 0 and found.state_ns[0, RUNNING] == 50 and found.unsure_ns[0] == 0


def test_a_dead_thread_grows_no_older() -> None:
    found = edge(10**9, state=RUNNING, since_ns=100, flags=THREAD_DEAD)
    assert found.state_ns.sum() == 0 and len(found.open_keys) == 0


def test_a_thread_that_a_snapshot_took_for_running_is_unsure_until_it_is_switched_in() -> None:
    assert edge(150, state=RUNNING, since_ns=100, flags=THREAD_SNAPSHOT).unsure_ns.tolist() == [50]
    assert edge(150, state=RUNNING, since_ns=100, in_ns=120, flags=THREAD_SNAPSHOT).unsure_ns.tolist() == [0]


def test_an_update_that_is_later_than_the_edge_takes_nothing_off() -> None:
    found = edge(150, state=LOCK, since_ns=160, in_ns=90)
    assert found.state_ns.sum() == 0 and len(found.open_keys) == 0


def test_an_edge_without_threads_is_empty() -> None:
    found = edge_of(np.zeros(0, np.uint32), np.zeros(0, THREAD_DTYPE), 5)
    assert found.open_keys.shape == (0, 6) and found.open_sums.shape == (0, 3) and len(found.state_ns) == 0


def test_a_row_without_a_call_reads_as_one() -> None:
    keys, sums = open_row(5, 7, RUNNABLE, -30)
    (row,) = keys.view(ROW_DTYPE).reshape(-1)
    assert (row["pid"], row["tid"], row["state"], row["syscall"], row["fd"]) == (5, 7, RUNNABLE, -1, 255)
    assert sums.tolist() == [[0, -30, 0]]


def test_all_windows_of_a_thread_that_never_switches_hold_its_one_wait() -> None:
    values = thread(state=NET, since_ns=100, pid=5, syscall=0, fd=3)
    edges = [edge_of(np.array([7], np.uint32), values, now) for now in (200, 300, 400)]
    assert [int(b.open_sums[0, 1] - a.open_sums[0, 1]) for a, b in pairwise(edges)] == [100, 100]
