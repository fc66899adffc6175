"""Rows: how large a summary is as it is sent, in steady state: what it refers to was sent before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from numbers_of import Row, median, spread
from plan import Plan
from watching import Watching

from excise.summary import Summary, compact, fit, read_summaries
from excise.summary.segment import steady_bytes

STACKS = 50
LIMIT, LIMIT_WITH_STACKS = 1024, 4096


def rows(plan: Plan, name: str, pid: int, folder: Path) -> Iterator[Row]:
    file = folder / f"{name}.summaries".replace(" ", "-")
    Watching(pid, plan.summary_windows * plan.summary_s + 1, summaries=file, window_s=plan.summary_s).wait()
    seen = [s for s in read_summaries(file) if s.observed_ns > 0.9e9 * plan.summary_s]
    how = f"{len(seen)} windows of {plan.summary_s:g} s, deflated, the frame's 9 bytes included"
    yield _row(f"summary, {name}: without stacks", [_bare(s) for s in seen], how)
    yield _row(f"summary, {name}: with {STACKS} stacks", [_full(s) for s in seen], how)
    scales = {h.scale for s in seen for h in fit(compact(s, 0), LIMIT * len(s.processes)).lengths.values()}
    found = ", ".join(str(scale) for scale in sorted(scales)) or "none"
    yield Row("  scale of its histograms without stacks", found, "of 4", "lowered until it fits in 1 KB")
    yield Row("  stacks kept", f"{median([len(s.stacks) for s in seen]):.0f}", "stacks", f"of at most {STACKS}")


def _bare(summary: Summary) -> float:
    return steady_bytes(fit(compact(summary, 0), LIMIT * len(summary.processes))) / len(summary.processes)


def _full(summary: Summary) -> float:
    kept = fit(compact(summary, STACKS), LIMIT_WITH_STACKS * len(summary.processes))
    return steady_bytes(kept) / len(summary.processes)


def _row(what: str, sizes: list[float], how: str) -> Row:
    return Row(what, f"{median(sizes):,.0f}", "bytes a process", f"{how}; {spread(sizes, lambda n: f'{n:,.0f}')}")
