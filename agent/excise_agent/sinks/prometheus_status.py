"""The agent's own state as metrics. The daemon says what it knows; None and what is missing is not exposed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from excise_agent.sinks.prometheus_labels import few, label_value
from excise_agent.sinks.prometheus_sums import Point

MOST_SINKS: Final = 16
MOST_NAMES: Final = 16  # reasons, probes


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """Of one sink. Counts are of windows and since the agent's start, times by the wall clock, seconds since 1970."""

    name: str
    kind: str  # "forward", "clickhouse"
    delivered: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)  # by reason
    failures: int = 0
    up: bool | None = None  # whether the last delivery succeeded; None: none was tried
    lag_windows: int | None = None
    lag_s: float | None = None  # age of the oldest window that is not delivered; 0 none
    last_success_s: float | None = None
    last_error_s: float | None = None


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Counts are since the agent's start. Making one must not block: Prometheus waits for it."""

    version: str
    python: str
    start_s: float | None = None  # wall clock
    cpu_s: Mapping[str, float] = field(default_factory=dict)  # by part: "agent", "bpf", "tick"
    resident_bytes: int | None = None
    overhead_ratio: float | None = None
    budget_ratio: float | None = None
    rate_hz: float | None = None
    step: int | None = None  # index in governor.LADDER
    step_name: str | None = None
    probes: Mapping[str, bool] = field(default_factory=dict)  # whether it is attached
    processes: int | None = None
    workloads: int | None = None
    scans: int | None = None
    scan_cpu_s: float | None = None
    last_scan_s: float | None = None  # wall clock
    windows_lost: Mapping[str, int] = field(default_factory=dict)  # by reason
    spool_bytes: int | None = None
    spool_limit_bytes: int | None = None
    spool_entries: int | None = None
    spool_oldest_s: float | None = None  # wall clock
    sinks: tuple[SinkStatus, ...] = ()


_AGENT: Final = {
    "start_s": "excise_agent_start_time_seconds",
    "resident_bytes": "excise_agent_resident_memory_bytes",
    "overhead_ratio": "excise_agent_overhead_ratio",
    "budget_ratio": "excise_agent_budget_ratio",
    "rate_hz": "excise_agent_sample_rate_hertz",
    "step": "excise_agent_steps_down",
    "processes": "excise_watched_processes",
    "workloads": "excise_watched_workloads",
    "scans": "excise_discovery_scans_total",
    "scan_cpu_s": "excise_discovery_scan_seconds_total",
    "last_scan_s": "excise_discovery_last_scan_timestamp_seconds",
    "spool_bytes": "excise_spool_bytes",
    "spool_limit_bytes": "excise_spool_limit_bytes",
    "spool_entries": "excise_spool_entries",
    "spool_oldest_s": "excise_spool_oldest_timestamp_seconds",
}
_SINK: Final = {
    "delivered": "excise_sink_delivered_windows_total",
    "failures": "excise_sink_failures_total",
    "up": "excise_sink_up",
    "lag_windows": "excise_sink_lag_windows",
    "lag_s": "excise_sink_lag_seconds",
    "last_success_s": "excise_sink_last_success_timestamp_seconds",
    "last_error_s": "excise_sink_last_error_timestamp_seconds",
}


def status_points(status: AgentStatus) -> Iterator[Point]:
    yield Point("excise_build_info", (label_value(status.version), label_value(status.python)), 1)
    yield from _fields(status, _AGENT, ())
    if status.step_name is not None:
        yield Point("excise_agent_step_info", (label_value(status.step_name),), 1)
    for metric, counts in (
        ("excise_agent_cpu_seconds_total", status.cpu_s),
        ("excise_windows_lost_total", status.windows_lost),
    ):
        yield from (Point(metric, (name,), count) for name, count in few(counts, MOST_NAMES).items())
    for probe in sorted(status.probes)[:MOST_NAMES]:
        yield Point("excise_probe_attached", (label_value(probe),), status.probes[probe])
    labels: set[str] = set()
    for sink in status.sinks[:MOST_SINKS]:
        label = label_value(sink.name)
        while label in labels:  # two series that are alike would fail the whole scrape
            label += "+"
        labels.add(label)
        yield Point("excise_sink_info", (label, label_value(sink.kind)), 1)
        yield from _fields(sink, _SINK, (label,))
        for reason, count in few(sink.lost, MOST_NAMES).items():
            yield Point("excise_sink_lost_windows_total", (label, reason), count)


def _fields(status: AgentStatus | SinkStatus, metrics: Mapping[str, str], labels: tuple[str, ...]) -> Iterator[Point]:
    for name, metric in metrics.items():
        value = getattr(status, name)
        if value is not None:
            yield Point(metric, labels, float(value))
