"""Rows: what a context switch of threads costs that nobody watches, while something idle is watched."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

from hosts import Burst, idle_process
from kernel_clock import HOOKS, Empty, programs_of, running
from numbers_of import Row, interval_of_median
from plan import Plan

from excise_agent.attach import Options, Watch
from excise_agent.loader import Probes


def rows(plan: Plan) -> Iterator[Row]:
    with idle_process() as pid, Burst(pairs=1) as burst:
        watch = Watch(Options(pid=pid, duration_s=None, rate_hz=0.0), lambda item: None)
        empty = Empty()
        try:
            watch.start()
            probes = watch._probes  # to turn them on and off within milliseconds; a run of watch.py takes seconds
            assert probes is not None
            probes.detach()
            yield from _by_the_kernel(plan, burst, probes, empty)
            yield from _by_the_wall(plan, burst, probes, empty)
        finally:
            empty.close()
            watch.close()


def _by_the_kernel(plan: Plan, burst: Burst, probes: Probes, empty: Empty) -> Iterator[Row]:
    """bpf_stats reads a clock before and after each run; what that adds is seen on programs that do nothing."""
    net: dict[str, list[float]] = {name: [] for name in HOOKS}
    clock, together = [], []
    for _ in range(plan.switch_blocks // 2):
        probes.attach()
        empty.attach()
        with running():
            before = programs_of(os.getpid())
            burst.run(plan.switch_s, 0)
            after = programs_of(os.getpid())
        empty.detach()
        probes.detach()
        runs = {name: after[name].since(before[name]) for name in after}
        for name in HOOKS:
            least = runs[f"empty_{name}"].mean_ns
            net[name].append(runs[name].mean_ns - least)
            clock.append(least)
        together.append(sum(values[-1] for values in net.values()))
    how = f"{plan.switch_blocks // 2} blocks of {plan.switch_s:g} s of an eventfd ping-pong on one CPU"
    for name, values in net.items():
        yield _row(f"an unwatched switch: {name}", "ns a run", values, f"bpf_stats less an empty program's; {how}")
    yield _row(
        "an unwatched switch: our programs together",
        "ns",
        together,
        f"each once: a switch that a waking leads to; {how}",
    )
    yield _row("  an empty program by the same clock", "ns a run", clock, "taken off above")


def _by_the_wall(plan: Plan, burst: Burst, probes: Probes, empty: Empty) -> Iterator[Row]:
    """Blocks in random order within a round; differences within rounds."""
    cases: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "nothing": (lambda: None, lambda: None),
        "nothing again (A/A)": (lambda: None, lambda: None),
        "three empty programs": (empty.attach, empty.detach),
        "our programs": (probes.attach, probes.detach),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(plan.switch_blocks):
        for name in random.sample(list(cases), len(cases)):
            attach, detach = cases[name]
            attach()
            said = burst.run(plan.switch_s, 0)
            detach()
            taken[name].append(said["seconds"] * 1e9 / said["switches"])
    base = taken["nothing"]
    how = f"{plan.switch_blocks} rounds of {plan.switch_s:g} s blocks in random order, the same ping-pong, wall clock"
    yield _row("a switch, nothing attached", "ns", base, how)
    for name in list(cases)[1:]:
        extra = [value - other for value, other in zip(taken[name], base, strict=True)]
        yield _row(f"  longer with {name}", "ns", extra, how)


def _row(what: str, unit: str, values: list[float], how: str) -> Row:
    middle, low, high = interval_of_median(values)
    return Row(what, f"{middle:,.0f}", unit, f"median, 95 % interval {low:,.0f} to {high:,.0f}; {how}")
