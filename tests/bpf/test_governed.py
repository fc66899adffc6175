"""A watch under its governor on real programs: what is thinned is stood for, and the totals stay the scheduler's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from excise.batch import Totals
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import WEIGHT_ONE
from excise_agent.governor import LADDER, Governor, Spent, Step

from .conftest import Observe, Seen
from .dialogue import Dialogue
from .test_closure import agrees, switches

WALK = Step("walk 1 in 64", 64)
BLOCKS = Step("waits from 10 ms", 2, 10_000_000)
PHASES = Step("a quarter of the time", duty_ratio=0.25)


@dataclass(slots=True)
class Pinned(Governor):
    """Takes one step and stays there."""

    pinned: Step = LADDER[0]

    @property
    def step(self) -> Step:
        return self.pinned

    def expect(self, *_: float) -> Step:
        return self.pinned

    def account(self, spent: Spent, urgent: bool = False) -> Step:
        return self.pinned


def cost_ratio(seen: Seen) -> float:
    return sum(seen.overhead[f"{part}_cpu_ratio"] or 0.0 for part in ("agent", "bpf", "tick"))


def test_a_storm_of_switches_costs_little_and_its_totals_are_the_schedulers(observe: Observe) -> None:
    with Dialogue("closing.py", "pingpong") as target:
        tids = target.hear()["tids"]
        free = observe(target.pid, 3.0)
        held = observe(target.pid, 6.0, budget_ratio=0.01)
    for tid in tids:
        agrees(held, tid)
    assert cost_ratio(held) < cost_ratio(free) / 3
    told = held.overhead["governor"]
    assert told["budget_ratio"] == 0.01
    assert told["steps_ns"].keys() - {"everything"}  # it says what it left out, and for how long
    assert sum(told["steps_ns"].values()) == pytest.approx(held.span_ns, rel=0.2)


@pytest.mark.parametrize("step", [WALK, BLOCKS], ids=lambda step: step.name)
def test_weights_stand_for_what_is_left_out(step: Step, observe: Observe) -> None:
    with Dialogue("closing.py", "sleepers") as target:
        tids = target.hear()["tids"]
        before = switches(target.pid, tids)
        seen = observe(target.pid, 4.0, governor=Pinned(None, pinned=step))
        happened = switches(target.pid, tids) - before
    waits = [row for tid in tids for row in seen.rows(tid) if int(row["state"]) == KERNEL_STATE_ID["sleep"]]
    records = sum(int(row["count"]) for row in waits)
    assert 0 < records < happened / 4
    stands_for = records + sum(int(row["thinned"]) for row in waits) / WEIGHT_ONE
    assert records < stands_for < 1.1 * happened  # it switched before the window too
    asleep = sum(seen.ns(tid, "sleep") for tid in tids)
    stood_for = sum(int(row["weight_ns"]) for row in waits)
    variance = sum(float(row["weight_var_us2"]) for row in waits) * 1e6
    assert abs(stood_for - asleep) < 5 * math.sqrt(variance) + 0.01 * asleep
    for tid in tids:
        agrees(seen, tid)


def test_phases_tell_states_apart_with_an_error(observe: Observe) -> None:
    with Dialogue("closing.py", "gil") as target:
        tids = target.hear()["tids"]
        whole = observe(target.pid, 4.0)
        phased = observe(target.pid, 8.0, governor=Pinned(None, pinned=PHASES))
    for tid in tids:
        agrees(phased, tid)
    blocked, error = by_state(phased, tids), errors(phased, tids)
    assert sum(error.values()) > 0 or set(blocked) == {"gil"}
    share = blocked["gil"] / sum(blocked.values())
    before = by_state(whole, tids)
    assert share == pytest.approx(before["gil"] / sum(before.values()), abs=0.1)


def test_a_thread_that_sleeps_throughout_is_known_without_a_switch(observe: Observe) -> None:
    with Dialogue("closing.py", "pinned") as target:
        target.hear()
        seen = observe(target.pid, 3.0, governor=Pinned(None, pinned=PHASES))
    main: Any = seen.totals()[target.pid]  # it joins the thread that spins
    assert int(main["state_ns"][KERNEL_STATE_ID["lock"]]) == int(main["lifetime_ns"]) > 0
    stacks = [[name for name, _ in seen.named(row)] for row in seen.rows(target.pid)]
    assert stacks and all("Thread.join" in stack for stack in stacks)


def test_short_lived_children_have_their_own_lifetimes_in_phases(observe: Observe) -> None:
    """One child at a time: together they cannot have lived longer than the window."""
    with Dialogue("tree.py", "forks") as target:
        target.hear()
        seen = observe(target.pid, 30, stop=target.done_after_go(), governor=Pinned(None, pinned=PHASES))
        cpu_ns = {int(pid): ns for pid, ns in target.told["cpu_ns"].items()}
    children = [row for row in seen.totals().values() if int(row["pid"]) in cpu_ns]
    assert len(children) == len(cpu_ns)
    assert sum(int(row["lifetime_ns"]) for row in children) < 1.05 * seen.span_ns
    ran = sum(seen.ns(int(row["tid"]), "running") for row in children)
    assert ran == pytest.approx(sum(cpu_ns.values()), rel=0.05)


def test_without_a_budget_every_record_stands_for_itself(observe: Observe) -> None:
    with Dialogue("closing.py", "sleepers") as target:
        tids = target.hear()["tids"]
        seen = observe(target.pid, 1.5)
    rows = [row for tid in tids for row in seen.rows(tid)]
    assert rows and not any(int(row["thinned"]) or int(row["weight_var_us2"]) for row in rows)


def by_state(seen: Seen, tids: list[int]) -> dict[str, int]:
    """Blocked time of some threads."""
    out: dict[str, int] = {}
    for tid in tids:
        for name, ns in zip(KERNEL_STATES, seen.totals()[tid]["state_ns"], strict=True):
            if ns and name not in ("running", "runnable", "stolen"):
                out[name] = out.get(name, 0) + int(ns)
    return out


def errors(seen: Seen, tids: list[int]) -> dict[str, int]:
    out: dict[str, int] = {}
    for item in seen.items:
        for row in item.rows if isinstance(item, Totals) else ():
            if int(row["tid"]) in tids:
                for name, ns in zip(KERNEL_STATES, row["se_ns"], strict=True):
                    out[name] = out.get(name, 0) + int(ns)
    return out
