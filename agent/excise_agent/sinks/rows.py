"""An item of the spool as rows of packaging/clickhouse/schema.sql: table -> its rows, column -> value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from excise.names import STAGES
from excise.spool import Entry, Gap, Item
from excise.summary import Summary, stage_of
from excise.summary.numbers import COST, KPIS, QUALITY
from excise_agent.sinks.event import window_wall_ns
from excise_agent.sinks.sink import AgentInfo

TABLES: Final = ("stacks", "stages", "gaps", "windows")
"""In the order in which they are sent: a row of `windows` is there when all of its others are."""

MOST_NS: Final = 1 << 63
Row = dict[str, object]


def rows_of(agent: AgentInfo, items: Sequence[Item], stacks: bool) -> dict[str, list[Row]]:
    """Of all items. ValueError: one does not fit the columns, which would take it for something else."""
    out: dict[str, list[Row]] = {table: [] for table in TABLES}
    for item in items:
        who: Row = {"agent": agent.agent, "host": _text(agent.host)}
        if isinstance(item, Gap):
            out["gaps"].append(who | {"version": agent.version, "first": item.first, "last": item.last,
                                      "reason": item.reason})
            continue
        begin, end = window_wall_ns(item.summary)
        if begin is None or end is None:
            raise ValueError("it has no time span")
        key = who | {"sequence": item.sequence, "workload": _text(item.workload.name),
                     "workload_kind": item.workload.kind, "start_ns": _integer(begin)}
        out["windows"].append(key | {"version": agent.version, "end_ns": _integer(end)} | _window(item.summary))
        out["stages"] += [key | row for row in _stages(item.summary)]
        if stacks:
            out["stacks"] += [key | row for row in _stacks(item)]
    return out


def _window(summary: Summary) -> Row:
    stages, error = summary.stages_ns(), summary.tax_error
    numbers = {"kpis": KPIS, "quality": QUALITY, "cost": COST}
    return {
        "observed_ns": _integer(summary.observed_ns),
        "processes": len(summary.processes),
        "comms": sorted({_text(program.comm) for program in summary.processes.values()}),
        "total_ns": _integer(sum(stages.values())),
        "busy_ns": _integer(summary.busy_ns()),
        **{f"{stage}_ns": _integer(stages[stage]) for stage in STAGES},
        "ai_tax_ratio": summary.ai_tax_ratio(),
        "ai_tax_se": summary.ai_tax_se(),
        "compute_var_us2": None if error is None else float(error.compute_us2),
        "tax_var_us2": None if error is None else float(error.tax_us2),
        "compute_tax_cov_us2": None if error is None else float(error.covariance_us2),
        **{number.name: _maybe(getattr(summary, section).get(number.name))
           for section, table in numbers.items() for number in table},
        "lost.name": sorted(summary.lost),
        "lost.count": [_integer(summary.lost[name]) for name in sorted(summary.lost)],
    }


def _stages(summary: Summary) -> list[Row]:
    """A class and a state of all processes: cells of two processes share no sample, their variances add up."""
    sums: dict[tuple[str, str], tuple[int, int | None]] = {}
    for key, cell in summary.cells.items():
        ns, variance = sums.get(key[1:], (0, 0))
        variance = None if variance is None or cell.variance_us2 is None else variance + cell.variance_us2
        sums[key[1:]] = ns + cell.ns, variance
    return [{"class": _text(cls), "stage": _text(stage_of(cls)), "state": _text(state), "ns": _integer(ns),
             "variance_us2": None if variance is None else float(variance)}
            for (cls, state), (ns, variance) in sorted(sums.items())]


def _stacks(entry: Entry) -> list[Row]:
    summary = entry.summary
    sums: dict[tuple[str, str, int], tuple[int, int]] = {}
    for key, time in summary.stacks.items():
        ns, count = sums.get(key[1:], (0, 0))
        sums[key[1:]] = ns + time.ns, count + time.count
    out: list[Row] = []
    for (cls, state, stack), (ns, count) in sorted(sums.items()):
        frames = summary.frames_of(stack)
        out.append({"class": _text(cls), "stage": _text(stage_of(cls)), "state": _text(state), "stack": stack,
                    "ns": _integer(ns), "count": _integer(count),
                    "frames.kind": [_text(frame.kind) for frame in frames],
                    "frames.name": [_text(frame.name) for frame in frames],
                    "frames.file": [_text(frame.file) for frame in frames],
                    "frames.line": [frame.line for frame in frames]})
    return out


def _integer(value: int) -> int:
    """ClickHouse would take a greater one for another, without a word."""
    if not 0 <= value < MOST_NS:
        raise ValueError(f"{value} does not fit a column")
    return value


def _maybe(value: int | None) -> int | None:
    return None if value is None else _integer(value)


def _text(text: str) -> str:
    """What is no UTF-8 (a lone surrogate) becomes '?'."""
    return text.encode("utf-8", "replace").decode()
