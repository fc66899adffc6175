"""Windows: each accounted alone; however a stream is cut, their sums are those of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from streams import END, HEADER, PID, SECOND, FrameRules, definitions, sample, session_of, slices, totals, waited

from excise.batch import LENGTH_DTYPE, Batch, Cost, Definitions, HostSample, Item, Totals
from excise.frames import Process, Thread
from excise.ledger.account import account
from excise.ledger.classes import CLASS_ID
from excise.ledger.threads import Memory
from excise.ledger.windows import Window, Windows
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import WEIGHT_ONE
from excise.stages import Rules

MAIN, WORKER = Thread(PID, PID, "main", True), Thread(101, PID, "pool-3", False)
START = [HEADER, definitions([MAIN, WORKER])]


def windows_of(items: Iterable[Item]) -> list[Window]:
    out: list[Window] = []
    windows = Windows(cast(Rules, FrameRules()), out.append)
    for item in items:
        windows.feed(item)
    return out


def window(at: int, rows: NDArray[np.void], sums: NDArray[np.void], *more: Item) -> list[Item]:
    return [Batch(at * SECOND, (at + 1) * SECOND, rows), *more, Totals(at * SECOND, (at + 1) * SECOND, sums)]


def by_thread(found: Iterable[Window]) -> dict[tuple[int, int], NDArray[np.int64]]:
    out: dict[tuple[int, int], NDArray[np.int64]] = {}
    for w in found:
        for key, state_ns in zip(w.found.threads.keys, w.found.state_ns, strict=True):
            out[key] = out.get(key, 0) + state_ns
    return out


def stages(w: Window) -> dict[str, float]:
    return {stage: float(w.found.carrier_ns[c]) for (stage, _), c in CLASS_ID.items() if w.found.carrier_ns[c]}


states = st.sampled_from(KERNEL_STATES)
ns = st.integers(0, 10**12)
some_totals = st.lists(
    st.tuples(st.sampled_from([PID, 101, 102]), st.dictionaries(states, ns)), max_size=3, unique_by=lambda x: x[0]
).map(lambda rows: totals(*({"tid": tid, **row} for tid, row in rows)))
some_rows = st.lists(st.one_of(
    st.builds(lambda tid, n: sample("preprocess", n, tid=tid), st.sampled_from([PID, 101]), st.integers(1, 9)),
    st.builds(lambda tid, state, n, q: waited("logging", state, n, q, tid=tid), st.sampled_from([PID, 101, 102]),
              st.sampled_from(["lock", "net"]), ns, ns)), max_size=5).map(lambda rows: slices(*rows))


@given(st.lists(st.tuples(some_rows, some_totals), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_sums_over_windows_are_the_wholes(parts: list[tuple[NDArray[np.void], NDArray[np.void]]]) -> None:
    items = [*START, *(i for at, part in enumerate(parts) for i in window(at, *part)), END]
    found, session = windows_of(items), session_of(items)
    whole = account(session.tally, session.known, session.attributor, Memory())
    assert len(found) == len(parts)
    expected = dict(zip(whole.threads.keys, whole.state_ns.tolist(), strict=True))
    assert {key: n.tolist() for key, n in by_thread(found).items()} == expected
    for w in found:
        assert abs(w.found.off_cpu.sum() + w.found.on_cpu.ns.sum() - w.found.state_ns.sum()) <= 1e-9 * 10**14


signed = st.dictionaries(states, st.integers(-(10**6), 10**9))


@given(st.lists(signed, min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_a_window_lacks_is_taken_off_the_next(parts: list[dict[str, int]]) -> None:
    """The scheduler settles running time after the edge. The last window makes good for all before it."""
    last = dict.fromkeys(KERNEL_STATES, 10**10)
    items = [*START, *(i for at, p in enumerate([*parts, last]) for i in window(at, slices(), totals(p))), END]
    found = windows_of(items)
    assert all((w.found.state_ns >= 0).all() for w in found)
    (sums,) = by_thread(found).values()
    assert sums.tolist() == [sum(p.get(s, 0) for p in (*parts, last)) for s in KERNEL_STATES]


def test_each_window_is_of_what_came_in_it() -> None:
    first, second = windows_of([
        *START, *window(0, slices(waited("logging", "lock", 60)), totals({"lock": 60})),
        *window(1, slices(waited("serving", "lock", 30)), totals({"lock": 30})), END])
    assert (stages(first), stages(second)) == ({"logging": 60}, {"serving": 30})
    assert [(w.start_ns, w.end_ns) for w in (first, second)] == [(0, SECOND), (SECOND, 2 * SECOND)]


def test_who_ran_python_once_carries_from_then_on() -> None:
    rows = slices(waited("serving", "net", 10, tid=101))
    quiet = slices({"tid": 101, "state": "net", "weight_ns": 5})
    first, second = windows_of([*START, *window(0, rows, totals({"tid": 101, "net": 10})),
                                *window(1, quiet, totals({"tid": 101, "net": 5})), END])
    assert first.found.threads.carrier.tolist() == second.found.threads.carrier.tolist() == [True]


def test_losses_host_and_cost_are_of_their_window() -> None:
    cost, host = Cost(0, SECOND, {"agent_ns": 7}), HostSample(0, SECOND, {"rss_bytes": 5, "listen_ports": [80]})
    first, second = windows_of([
        *START, Batch(0, SECOND, slices(), {"ring_full": 2}),
        *window(0, slices(), totals({"net": 5}), cost, host),
        HostSample(0, SECOND, {"rss_bytes": 6, "listen_ports": [81]}), Cost(0, SECOND, {"agent_ns": 9}),
        *window(1, slices(), totals({"net": 5})), END])
    assert (first.found.lost, first.found.costs) == ({"ring_full": 2}, {"agent_ns": 7})
    assert first.found.host == {"rss_bytes": 5, "listen_ports": [80]}
    assert (second.found.lost, second.found.costs, second.found.host) == ({}, {}, {"listen_ports": [80, 81]})


def test_a_port_that_was_named_before_is_inbound_later() -> None:
    class Inbound(FrameRules):
        def attribute(self, frames, wait, thread):  # type: ignore[no-untyped-def]
            verdict = super().attribute(frames, wait, thread)
            return replace(verdict, stage="idle") if wait is not None and wait.inbound else verdict

    out: list[Window] = []
    windows = Windows(cast(Rules, Inbound()), out.append)
    rows = slices(waited("serving", "net", 10, fd_class=8, port=80))
    for item in (*START, *window(0, rows, totals({"net": 10}), HostSample(0, 1, {"listen_ports": [80]})),
                 *window(1, rows, totals({"net": 10}))):
        windows.feed(item)
    assert [stages(w) for w in out] == [{"idle": 10}, {"idle": 10}]


def test_lengths_are_by_process_class_and_state_of_carriers() -> None:
    rows = slices(waited("logging", "lock", 60), waited("logging", "lock", 9, port=1), waited("serving", "net", 5),
                  {"tid": 101, "state": "net", "weight_ns": 5}, waited("serving", "net", 5, tid=555))
    lengths = np.array([(0, 40, 512), (1, 40, 256), (1, 41, 256), (2, 7, 256), (3, 7, 256), (4, 7, 256)], LENGTH_DTYPE)
    items = [*START, Batch(0, SECOND, rows, {}, lengths),
             Totals(0, SECOND, totals({"lock": 69, "net": 5}, {"tid": 101, "net": 5}))]
    (w,) = windows_of(items)
    logging, serving = CLASS_ID["logging", None], CLASS_ID["serving", None]
    lock, net = KERNEL_STATE_ID["lock"], KERNEL_STATE_ID["net"]
    assert sorted(w.found.lengths.tolist()) == sorted([
        (PID, logging, lock, 40, 3 * WEIGHT_ONE), (PID, logging, lock, 41, WEIGHT_ONE),
        (PID, serving, net, 7, WEIGHT_ONE)])


def test_definitions_of_what_is_gone_go_after_a_window() -> None:
    child = Definitions(processes=[Process(200, 8, "child", "3.11.7")], threads=[Thread(200, 200, "child", True)])
    out: list[Window] = []
    windows = Windows(cast(Rules, FrameRules()), out.append)
    for item in (*START, child, *window(0, slices(), totals({"net": 1}))):
        windows.feed(item)
    assert 200 in windows.known.processes, "its totals may be the next ones"
    for item in window(1, slices(), totals({"net": 1}, {"pid": 200, "tid": 200, "net": 1})):
        windows.feed(item)
    assert out[-1].found.threads.names == ["main", "child"]
    for at in (2, 3):
        for item in window(at, slices(), totals({"net": 1})):
            windows.feed(item)
    assert set(windows.known.processes) == {PID} and 200 not in windows.known.threads
