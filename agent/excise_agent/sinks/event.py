"""An item of the spool as one flat map: what an operator can route and filter by, and the summary as it is."""

from __future__ import annotations

from typing import Final

from excise.names import STAGES
from excise.spool import Gap, Item
from excise.summary import Summary, encode_segment
from excise_agent.sinks.sink import AgentInfo

SCHEMA: Final = 1  # of the map; the summary's bytes name their own format
Value = str | int | float | bytes | None | dict[str, object]


def event_of(agent: AgentInfo, item: Item) -> dict[str, Value]:
    """docs/shipping.md lists the keys. A value that is not known is None. ValueError: does not fit the format."""
    who: dict[str, Value] = {"schema": SCHEMA, "agent": agent.agent, "host": agent.host, "version": agent.version}
    if isinstance(item, Gap):
        return who | {"sequence": item.first,
                      "lost": {"first": item.first, "last": item.last, "reason": item.reason}}
    begin, end = window_wall_ns(item.summary)
    return who | {
        "sequence": item.sequence, "workload": item.workload.name, "workload_kind": item.workload.kind,
        "start_ns": begin, "end_ns": end, **flat_numbers(item.summary), "summary": encode_segment([item.summary])}


def window_wall_ns(summary: Summary) -> tuple[int | None, int | None]:
    """From its first span's start to its last span's end, ns since 1970."""
    spans = [span for spans in summary.spans.values() for span in spans]
    if not spans:
        return None, None
    return min(s.start_wall_ns for s in spans), max(s.end_wall_ns for s in spans)


def flat_numbers(summary: Summary) -> dict[str, Value]:
    """Of its many numbers, those that one filters by. Stages of other versions are in the summary only."""
    stages, cost = summary.stages_ns(), summary.cost
    ours = [cost.get(name) for name in ("agent_ns", "bpf_ns", "tick_ns")]
    return {
        "observed_s": summary.observed_ns / 1e9,
        "ai_tax_ratio": summary.ai_tax_ratio(),
        "ai_tax_se": summary.ai_tax_se(),
        "busy_s": summary.busy_ns() / 1e9,
        **{f"{stage}_s": stages[stage] / 1e9 for stage in STAGES},
        "cpu_s": _seconds(summary.kpis.get("cpu_ns")),
        "throttled_s": _seconds(summary.kpis.get("throttled_ns")),
        "rss_bytes": summary.kpis.get("rss_bytes"),
        "agent_cpu_s": _seconds(None if None in ours else sum(n for n in ours if n is not None)),
        "lost_records": sum(summary.lost.values()),
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9
