"""Rows: the cost of watching a saturated server, its parts, its memory and its recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hosts import Demo
from numbers_of import Row, median, mib, percent, spread
from plan import Plan
from watching import PARTS, Watching, whole_cost

CASES = ((19.0, None), (99.0, None), (99.0, "none"), (999.0, None))
"""(samples a second and CPU, budget); None: the agent's own."""
PART_MEANS = {
    "agent_cpu_ratio": "all of our processes in the window, naming included",
    "bpf_cpu_ratio": "runs x mean of 1 run in 64",
    "tick_cpu_ratio": "ticks x calibrated cost",
}


def rows(plan: Plan, demo: Demo, folder: Path) -> Iterator[Row]:
    seen: dict[tuple[float, str | None], list[dict[str, Any]]] = {case: [] for case in CASES}
    record_bytes = []
    for number in range(plan.steady_rounds):
        for rate_hz, budget in CASES:
            record = folder / f"cost-{number}-{rate_hz:g}-{budget}.excise"
            watching = Watching(demo.pid, plan.steady_s, rate_hz, budget, record)
            seen[rate_hz, budget].append(watching.wait())
            if (rate_hz, budget) == CASES[1]:
                record_bytes.append(record.stat().st_size)
    how = f"median of {plan.steady_rounds} windows of {plan.steady_s:g} s, interleaved; demo server, 2 clients"
    for case, runs in seen.items():
        yield from _of_case(case, runs, plan, how)
    tick = seen[CASES[1]][0]["tick_ns"]
    yield Row("one timer tick", f"{tick:,}", "ns", "loop with and without a 10 kHz clock, once per boot")
    yield Row(
        "recording",
        f"{median(record_bytes) * 60 / plan.steady_s / 1024:,.0f}",
        "KiB a minute",
        f"file size, 99 Hz, {plan.steady_s:g} s windows, definitions included",
    )


def _of_case(case: tuple[float, str | None], runs: list[dict[str, Any]], plan: Plan, how: str) -> Iterator[Row]:
    rate_hz, budget = case
    name = f"{rate_hz:g} Hz" + (", budget none" if budget else "")
    whole = [whole_cost(r) for r in runs]
    of_target = "of the target's CPU"
    yield Row(f"whole cost at {name}", percent(median(whole)), of_target, f"{how}; {spread(whole, percent)}")
    for part in PARTS:
        share = median([r[part] or 0 for r in runs])
        yield Row(f"  {part.removesuffix('_cpu_ratio')}", percent(share), of_target, PART_MEANS[part])
    agent_ms = [r["window_cpu_s"] * 1000 / plan.steady_s for r in runs]
    yield Row(
        "  agent CPU", f"{median(agent_ms):.1f}", "ms/s", f"CPU clock; {spread(agent_ms, lambda ms: f'{ms:.1f}')}"
    )
    for program in runs[0]["programs"]:
        yield _of_program(program, runs, plan)
    yield Row("  memory", mib(median([r["pss_bytes"] for r in runs])), "MiB PSS", "smaps_rollup at a window's end")
    private = median([r["private_dirty_bytes"] for r in runs])
    yield Row("  memory of its own", mib(private), "MiB private dirty", "same")
    yield Row("  governor", step_of(runs[-1]), "step at the end", steps_of(runs[-1]))


def _of_program(program: str, runs: list[dict[str, Any]], plan: Plan) -> Row:
    of = [r["programs"][program] for r in runs]
    ns = [p["mean_ns"] for p in of if p["mean_ns"] is not None]
    per_s = median([p["runs"] / plan.steady_s for p in of])
    share = median(
        [(p["mean_ns"] or 0) * p["runs"] / max(r["target_cpu_ns"], 1) for p, r in zip(of, runs, strict=True)]
    )
    how = f"{per_s:,.0f} runs/s, all of the host's counted: {percent(share)} of the target's CPU"
    return Row(f"  {program}", f"{median(ns):,.0f}" if ns else "not timed", "ns a run", how)


def step_of(said: dict[str, Any]) -> str:
    governor = said.get("governor")
    return governor["step"] if governor else "none"


def steps_of(said: dict[str, Any]) -> str:
    """The time in each of the governor's steps, in words."""
    governor = said.get("governor")
    if not governor:
        return "no governor at work"
    return ", ".join(f"{step} {ns / 1e9:.1f} s" for step, ns in governor["steps_ns"].items() if ns)
