"""Rows: a target that switches 200 000 times a second: what it costs, what stays true, what the governor changes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costs import step_of, steps_of
from hosts import Burst, cpu_s
from kernel_clock import programs_of, running
from numbers_of import Row, interval_of_mean, median, percent, spread
from plan import Plan
from replays import BURST_RULES, BURST_STAGES, Replay
from watching import Watching, whole_cost

from excise_agent.governor import DEFAULT_BUDGET_RATIO, LEAST_BUDGET_CORES

SWITCHES_PER_S = 200_000
SLACK_S = 0.5  # the target switches on after the window: what is seen is the burst
LAST_LOOK_S = 0.3  # before the window's end, when the programs are still there to be read


@dataclass(frozen=True)
class Seen:
    """One window over a burst."""

    said: dict[str, Any]  # by watch.py
    replay: Replay
    switches_per_s: float
    outside_ratio: float  # (CPU of its process + its programs by bpf_stats) / the target's CPU
    outside_cores: float


def rows(plan: Plan, folder: Path) -> Iterator[Row]:
    with Burst() as burst:
        free = burst.run(plan.burst_s, SWITCHES_PER_S)
        reached = free["switches"] / free["seconds"]
        yield Row("burst: switches, nothing attached", f"{reached:,.0f}", "switches/s", f"{SWITCHES_PER_S:,} asked for")
        for budget in (None, "none"):
            yield from _cost(plan, burst, budget, folder)
        yield from shares(plan, burst, folder, plan.repeats)


def _cost(plan: Plan, burst: Burst, budget: str | None, folder: Path) -> Iterator[Row]:
    runs = [_watch(plan, burst, budget, folder / "burst.excise") for _ in range(plan.bursts)]
    name = f"burst, budget {budget or 'default'}"
    how = f"median of {plan.bursts} windows of {plan.burst_s:g} s at 99 Hz"
    if budget is None:
        how += f"; the budget is {percent(DEFAULT_BUDGET_RATIO)}, at least {LEAST_BUDGET_CORES:g} of a core"
    whole = [whole_cost(run.said) for run in runs]
    outside = [run.outside_ratio for run in runs]
    yield Row(f"{name}: whole cost", percent(median(whole)), "of the target's CPU", f"{how}; {spread(whole, percent)}")
    cores = f"its process's CPU clock and bpf_stats, without ticks; {spread(outside, percent)}"
    yield Row("  by the kernel's clocks", percent(median(outside)), "of the target's CPU", f"{how}; {cores}")
    yield Row("  the same", percent(median([run.outside_cores for run in runs])), "of a core", how)
    for state, which in (("running", 0), ("run-queue", 1)):
        off = [run.replay.off_schedstat()[which] for run in runs]
        against = "all threads, against /proc/PID/task/TID/schedstat"
        yield Row(
            f"  {state} total off by", percent(median(off)), "of schedstat's", f"{against}; {spread(off, percent)}"
        )
    switches = [run.switches_per_s for run in runs]
    yield Row("  switches meanwhile", f"{median(switches):,.0f}", "switches/s", spread(switches, lambda n: f"{n:,.0f}"))
    yield Row("  governor", step_of(runs[-1].said), "step at the end", steps_of(runs[-1].said))


def _watch(plan: Plan, burst: Burst, budget: str | None, record: Path) -> Seen:
    with running(), Watching(burst.pid, plan.burst_s, budget=budget, record=record) as watching:
        burst.begin(plan.burst_s + SLACK_S, SWITCHES_PER_S)
        before = _clocks(watching.pid, burst.pid)
        time.sleep(plan.burst_s - LAST_LOOK_S)
        after = _clocks(watching.pid, burst.pid)
        said = watching.wait()
    agent_s, programs_s, target_s, took_s = (b - a for a, b in zip(before, after, strict=True))
    done = burst.end()
    return Seen(
        said=said,
        replay=Replay(record, BURST_RULES),
        switches_per_s=done["switches"] / done["seconds"],
        outside_ratio=(agent_s + programs_s) / target_s,
        outside_cores=(agent_s + programs_s) / took_s,
    )


def _clocks(agent: int, target: int) -> tuple[float, float, float, float]:
    """CPU seconds of the agent, of its programs, of the target; and the time."""
    programs = sum(runs.ns for runs in programs_of(agent).values()) / 1e9
    return cpu_s(agent), programs, cpu_s(target), time.monotonic()


def shares(plan: Plan, burst: Burst, folder: Path, repeats: int) -> Iterator[Row]:
    """Stage shares of the burst, governed beside ungoverned, in random order within a repeat."""
    budgets: dict[str, str | None] = {"governed": None, "ungoverned": "none"}
    seen: dict[str, list[Replay]] = {name: [] for name in budgets}
    for _ in range(repeats):
        for name in random.sample(list(budgets), len(budgets)):
            record = folder / "shares.excise"
            with Watching(burst.pid, plan.shares_s, budget=budgets[name], record=record):
                burst.begin(plan.shares_s + SLACK_S, SWITCHES_PER_S)
            burst.end()
            seen[name].append(Replay(record, BURST_RULES))
    how = f"{repeats} pairs of windows of {plan.shares_s:g} s, bootstrap over pairs"
    for waiting, of in ((False, "share of time"), (True, "share of waits")):
        for stage in BURST_STAGES:
            governed, free = ([replay.stage_shares(waiting)[stage] for replay in seen[name]] for name in budgets)
            mean, low, high = interval_of_mean([100 * (g - f) for g, f in zip(governed, free, strict=True)])
            levels = f"{percent(sum(governed) / repeats)} governed, {percent(sum(free) / repeats)} not"
            interval = f"95 % interval {low:+.2f} to {high:+.2f}; {levels}; {how}"
            yield Row(f"burst: {stage} {of}, governed - not", f"{mean:+.2f}", "points", interval)
