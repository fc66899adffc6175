"""Rows: records and drops with no budget, at 100 000 events a second and at as many as the target can make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hosts import Burst
from numbers_of import Row
from plan import Plan
from replays import Replay
from watching import Watching

EVENTS_PER_S = 100_000
ROUND_S = 1.5  # the window is longer than the burst: all of the burst's switches lie in it


def rows(plan: Plan, folder: Path) -> Iterator[Row]:
    with Burst() as burst:
        for name, rate in (("100 k events/s", EVENTS_PER_S), ("as fast as it can", 0)):
            yield from _at(plan, burst, name, rate, folder / "losses.excise")


def _at(plan: Plan, burst: Burst, name: str, rate: float, record: Path) -> Iterator[Row]:
    with Watching(burst.pid, plan.burst_s + ROUND_S, budget="none", record=record):
        done = burst.run(plan.burst_s, rate)
    replay = Replay(record)
    events, drops = done["switches"], replay.drops
    how = f"budget none, {plan.burst_s:g} s, every switch-out is an event"
    yield Row(f"losses at {name}: events", f"{events / done['seconds']:,.0f}", "events/s", how)
    yield Row("  events", f"{events:,}", "switches", "getrusage(2) of the target, exact")
    yield Row("  records", f"{replay.waits:,}", "waits", "in the recording")
    named = ", ".join(f"{drop} {count:,}" for drop, count in drops.items()) or "no drop of any name"
    yield Row("  dropped", f"{drops.get('ring_full', 0):,}", "records", f"counted by the agent: {named}")
    missing = events - replay.waits - drops.get("ring_full", 0)
    edges = "a few: switches of the window's edges and of the threads' ends"
    yield Row("  neither record nor drop", f"{missing:,}", "events", f"{100 * missing / events:.3f} % of them; {edges}")
