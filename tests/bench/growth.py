"""Rows: how the cost grows with what is watched."""

from __future__ import annotations

from collections.abc import Iterator

from hosts import crowd, idle_process
from numbers_of import Row, exponent, median, spread
from plan import Plan
from watching import Watching, programs_s

ASLEEP_S = 0.1  # of each thread between its bits of work: 10 waits a second
LEAST_FITTED = 10  # below, the cost drowns in that of an idle process


def rows(plan: Plan) -> Iterator[Row]:
    how = f"median of {plan.growth_rounds} windows of {plan.growth_s:g} s, interleaved, 99 Hz, budget none"
    yield from _grow(plan, "threads", {n: (n, 1) for n in plan.threads}, how)
    yield from _grow(plan, "processes", {n: (1, n) for n in plan.processes}, how)


def _grow(plan: Plan, noun: str, sizes: dict[int, tuple[int, int]], how: str) -> Iterator[Row]:
    idle: list[tuple[float, float]] = []
    seen: dict[int, list[tuple[float, float]]] = {n: [] for n in sizes}
    for _ in range(plan.growth_rounds):
        with idle_process() as pid:
            idle.append(_watch(plan, pid))
        for n, (threads, processes) in sizes.items():
            with crowd(threads, processes, ASLEEP_S) as pid:
                seen[n].append(_watch(plan, pid))
    start_ms = median([sum(cost) for cost in idle])
    yield Row(f"growth, {noun}: an idle process", f"{start_ms:.1f}", "ms/s", f"{_parts(idle)}; {how}")
    above: dict[int, float] = {}
    for n, costs in seen.items():
        whole = median([sum(cost) for cost in costs])
        above[n] = whole - start_ms
        yield Row(f"growth: {n} {noun}", f"{whole:.1f}", "ms/s", f"{_parts(costs)}; {how}")
    largest = max(sizes)
    each = above[largest] * 1000 / largest
    yield Row(f"  each of {largest} {noun}", f"{each:.0f}", "µs/s", "above an idle process; 10 waits/s each")
    fitted = {n: ms for n, ms in above.items() if n >= LEAST_FITTED and ms > 0}
    if len(fitted) > 1:
        slope, error = exponent(list(fitted), list(fitted.values()))
        points = ", ".join(str(n) for n in fitted)
        by = f"standard error {error:.2f}" if len(fitted) > 2 else "two points, no error"
        how = f"{by}; slope of log(cost above an idle process) over log({noun}) at {points}"
        yield Row(f"  exponent over {noun}", f"{slope:.2f}", "(1: linear)", how)


def _watch(plan: Plan, pid: int) -> tuple[float, float]:
    """The agent's CPU and the programs', ms a second."""
    said = Watching(pid, plan.growth_s, budget="none").wait()
    return said["window_cpu_s"] * 1000 / plan.growth_s, programs_s(said) * 1000 / plan.growth_s


def _parts(costs: list[tuple[float, float]]) -> str:
    agent, programs = (median(part) for part in zip(*costs, strict=True))
    return f"agent {agent:.1f}, programs {programs:.1f}; {spread([sum(c) for c in costs], lambda ms: f'{ms:.1f}')}"
