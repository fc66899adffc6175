"""Rows of the table, their statistics, and the page that they end in."""

from __future__ import annotations

import datetime
import os
import platform
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

median = statistics.median


@dataclass(frozen=True)
class Row:
    """One number, its unit and how it was measured."""

    what: str
    value: str
    unit: str
    how: str

    def __str__(self) -> str:
        return f"{self.what:52} {self.value:>14} {self.unit:22} {self.how}"


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    return f"{show(min(values))} to {show(max(values))}"


def interval_of_ratio(ours: Sequence[float], theirs: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Ratio of the sums and its 95 % bootstrap interval; rounds are drawn, so that a round's noise stays in both."""
    return _bootstrap(len(ours), lambda picked: sum(ours[i] for i in picked) / sum(theirs[i] for i in picked), draws)


def interval_of_mean(values: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval. Of differences of pairs: the paired difference."""
    return _bootstrap(len(values), lambda picked: sum(values[i] for i in picked) / len(picked), draws)


def interval_of_median(values: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Median and its 95 % bootstrap interval: where a block now and then loses its CPU to someone else."""
    return _bootstrap(len(values), lambda picked: median([values[i] for i in picked]), draws)


def _bootstrap(n: int, statistic: Callable[[Sequence[int]], float], draws: int) -> tuple[float, float, float]:
    rng = random.Random(7)
    drawn = sorted(statistic([rng.randrange(n) for _ in range(n)]) for _ in range(draws))
    return statistic(range(n)), drawn[int(0.025 * draws)], drawn[int(0.975 * draws)]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Slope of log(cost) over log(size) by least squares, and its standard error (0 with two points)."""
    x, y = np.log(sizes), np.log(costs)
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    freedom = len(x) - 2
    return slope, float(np.sqrt((rest * rest).sum() / freedom / (x * x).sum())) if freedom > 0 else 0.0


def percent(ratio: float) -> str:
    return f"{100 * ratio:.2f} %"


def mib(count: float) -> str:
    return f"{count / (1 << 20):,.1f}"


def describe_host(quick: bool) -> list[str]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return [
        f"CPU: {cpu}, {os.cpu_count()} logical",
        f"Kernel: {platform.release()}",
        f"Python: {platform.python_version()}",
        f"Date: {datetime.date.today().isoformat()}",
        f"Load average before the end: {os.getloadavg()[0]:.1f}",
        *(["A quick run: few and short windows"] if quick else []),
    ]


def write(path: Path, facts: list[str], rows: Sequence[Row]) -> None:
    lines = [
        "# What Excise costs",
        "",
        "Written by `make bench`; do not edit. One host, one run, variants interleaved; `tests/bench` has the method.",
        "",
        *(f"* {fact}" for fact in facts),
        "",
        "The host is shared and its noise is large: two runs of the same thing differ by 10 % and more (see the A/A",
        "rows). A ratio whose interval holds 1.0 shows no effect, and proves none absent.",
        "",
        "| what | value | unit | how |",
        "|---|---:|---|---|",
    ]
    for row in rows:
        inset = "&nbsp;&nbsp;" if row.what.startswith(" ") else ""
        lines.append(f"| {inset}{row.what.strip()} | {row.value} | {row.unit} | {row.how} |")
    path.write_text("\n".join([*lines, ""]))
