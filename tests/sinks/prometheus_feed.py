"""What the tests of Prometheus feed: summaries of a made-up busy server, a state of the agent with everything in it."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from excise.frames import Process
from excise.summary import Span, Summary, SummaryBuilder
from excise.workload import Workload
from excise_agent.sinks.prometheus import Metrics
from excise_agent.sinks.prometheus_status import AgentStatus, SinkStatus

SUMMARIES = str(Path(__file__).parents[1] / "summary")
if SUMMARIES not in sys.path:
    sys.path.append(SUMMARIES)

from typical_summary import window  # noqa: E402

VLLM, BATCH = Workload("vllm.service", "unit"), Workload("nightly", "rule")
STATUS = AgentStatus(
    version="0.2.0", python="3.11.2", start_s=1.79e9, cpu_s={"agent": 12.5, "bpf": 3.25, "tick": 0.5},
    resident_bytes=110_000_000, overhead_ratio=0.008, budget_ratio=0.01, rate_hz=19.0, step=2, step_name="walk 1 in 4",
    probes={"on_cpu": True, "on_switch": True, "on_waking": False}, processes=5, workloads=2, scans=1000,
    scan_cpu_s=4.5, last_scan_s=1.79e9 + 999, windows_lost={"crash": 3, "disk_full": 0}, spool_bytes=12_345_678,
    spool_limit_bytes=200_000_000, spool_entries=8640, spool_oldest_s=1.79e9 - 86_400,
    sinks=(SinkStatus("fleet", "clickhouse", 800, {"aged": 2}, 7, True, 40, 400.5, 1.79e9 + 990, 1.79e9 + 900),
           SinkStatus("logs", "forward")),
)


class Series(NamedTuple):
    name: str
    labels: frozenset[tuple[str, str]]


def series(metrics: Metrics) -> dict[Series, float]:
    """Every series that is exposed; fails if two are alike."""
    out: dict[Series, float] = {}
    for family in metrics.collect():
        for sample in family.samples:
            key = Series(sample.name, frozenset(sample.labels.items()))
            assert key not in out, f"{key} is there twice"
            out[key] = sample.value
    return out


def values(metrics: Metrics, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
    """Series of that name that have these labels: the other labels and the value of each."""
    wanted = set(labels.items())
    return {key.labels - wanted: value for key, value in series(metrics).items()
            if key.name == name and wanted <= key.labels}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Of the one series that has these labels and no others."""
    return values(metrics, name, **labels).get(frozenset())


def nanoseconds(seconds: Iterable[float]) -> int:
    """Exactly what was counted: each is the double that is nearest to a whole number of ns."""
    return sum(round(value * 1e9) for value in seconds)


def fed(windows: int = 5) -> Metrics:
    """Two workloads, the agent's state, all that can be exposed."""
    metrics = Metrics(lambda: STATUS)
    for summary in typical(windows):
        metrics.take(VLLM, summary)
    metrics.take(BATCH, unknown())
    metrics.drop_connection("slow")
    return metrics


def typical(windows: int, seed: int = 1) -> list[Summary]:
    return [window(seed, index, processes=2) for index in range(windows)]


def builder() -> SummaryBuilder:
    return SummaryBuilder(boot_id="b", version="0.2.0", collector="bpf", rate_hz=19, capabilities=[],
                          span=Span(10**18, 10**18 + 10**10, 5 * 10**9, 15 * 10**9))


def unknown() -> Summary:
    """A window of which little is known: no error, no CPU time; a quota."""
    made = builder()
    process = made.process(Process(7, 70, "batch"), root=True)
    made.cell(process, "compute", "running_user", 3e9, None)
    return made.build(kpis={"cpu_ns": None, "quota_millicpus": 1500}, quality={}, cost={}, lost={}, steps={})
