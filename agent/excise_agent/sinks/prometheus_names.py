"""The metrics: name, type, labels, what each is, where it comes from, how far it can be off. docs/metrics.md is written
from this table, and nothing is exposed that is not in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram", "info"]

EXACT: Final = "exact"
TICKS: Final = "the kernel's: exact since its start, read at a window's edges"
READ: Final = "read at the window's end"
OWN: Final = "as the agent counted it"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` is as PromQL says it: counters end in `_total`, information in `_info`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    what: str
    source: str
    error: str = EXACT


WORKLOAD: Final = ("workload",)

WORKLOADS: Final = (
    Family("excise_workload_info", "info", "1", ("workload", "kind", "collector", "python"),
           "A workload that is watched: what its name is a name of, how it is watched, its Python versions.",
           "the host; processes of the last window"),
    Family("excise_windows_total", "counter", "windows", WORKLOAD, "Windows that were summarised.",
           "summary: windows"),
    Family("excise_observed_seconds_total", "counter", "seconds", WORKLOAD, "Length of these windows, added up.",
           "summary: observed_ns"),
    Family("excise_last_window_timestamp_seconds", "gauge", "seconds since 1970", WORKLOAD,
           "When the last window ended, by the wall clock.", "summary: spans"),
    Family("excise_stage_seconds_total", "counter", "seconds", ("workload", "stage", "state"),
           "Time of threads that run Python, by what they did (stage) and how the kernel had them (state).",
           "summary: cells",
           "the sum over stages is exact; running time is split over them by samples, with the variance below"),
    Family("excise_stage_variance_seconds_squared_total", "counter", "seconds squared", ("workload", "stage"),
           "Variance of a stage's seconds. Windows are independent, so that it adds up: the standard error of an "
           "`increase` of the seconds is the square root of the `increase` of this.",
           "summary: stage_variances", "known to a part in a hundred"),
    Family("excise_compute_seconds_total", "counter", "seconds", ("workload", "part"),
           "Time of stage compute by part: gpu, launch, cpu, or other where it was not told apart.", "summary: cells",
           "split by samples"),
    Family("excise_unattributed_seconds_total", "counter", "seconds", ("workload", "reason"),
           "Time of stage unattributed by reason: no_rule, no_sample, lost, no_stack.", "summary: cells",
           "split by samples"),
    Family("excise_ai_tax_ratio", "gauge", "ratio", WORKLOAD,
           "AI tax of the last window: 1 - compute / (all - idle - handoff). Absent when nothing is left to divide by.",
           "summary: cells", "`excise_ai_tax_standard_error_ratio`"),
    Family("excise_ai_tax_standard_error_ratio", "gauge", "ratio", WORKLOAD,
           "Standard error of the AI tax of the last window. Absent when it is not known.", "summary: tax_error",
           "delta method"),
    Family("excise_wait_seconds", "histogram", "seconds", ("workload", "stage"),
           "How long waits of a stage were. Limits are powers of two ns, where the summary's buckets end too.",
           "summary: lengths",
           "counts: as the summary's, where thinned waits stand for others; sum: within 2.2 %, from buckets of 4.4 %"),
    Family("excise_helper_cpu_seconds_total", "counter", "seconds", ("workload", "library"),
           "CPU time of pool threads without Python, by library. In no stage.", "summary: helpers"),
    Family("excise_workload_cpu_seconds_total", "counter", "seconds", WORKLOAD,
           "CPU time of the workload's processes, user and system.", "KPI cpu_ns", TICKS),
    Family("excise_workload_throttled_seconds_total", "counter", "seconds", WORKLOAD,
           "Time that the control group's quota kept it off its CPUs.", "KPI throttled_ns", TICKS),
    Family("excise_workload_disk_read_bytes_total", "counter", "bytes", WORKLOAD, "Read from block devices.",
           "KPI disk_read_bytes", TICKS),
    Family("excise_workload_disk_written_bytes_total", "counter", "bytes", WORKLOAD, "Written to block devices.",
           "KPI disk_write_bytes", TICKS),
    Family("excise_workload_network_receive_bytes_total", "counter", "bytes", WORKLOAD,
           "Received in its network namespace, loopback aside.", "KPI net_in_bytes", TICKS),
    Family("excise_workload_network_transmit_bytes_total", "counter", "bytes", WORKLOAD,
           "Sent in its network namespace, loopback aside.", "KPI net_out_bytes", TICKS),
    Family("excise_workload_resident_memory_bytes", "gauge", "bytes", WORKLOAD, "Resident memory of its processes.",
           "KPI rss_bytes", READ),
    Family("excise_workload_quota_cpus", "gauge", "CPUs", WORKLOAD,
           "Its control group's quota. Absent when it has none.", "KPI quota_millicpus", "to a thousandth of a CPU"),
    Family("excise_workload_allowed_cpus", "gauge", "CPUs", WORKLOAD, "CPUs that it may use.", "KPI allowed_cpus",
           READ),
    Family("excise_workload_processes", "gauge", "processes", WORKLOAD, "Processes that were seen in the last window.",
           "summary: processes"),
    Family("excise_workload_threads", "gauge", "threads", WORKLOAD, "Threads that lived in the last window.",
           "KPI threads"),
    Family("excise_workload_carriers", "gauge", "threads", WORKLOAD, "Of these, threads that ran Python.",
           "KPI carriers"),
    Family("excise_workload_listen_ports", "gauge", "ports", WORKLOAD, "Ports that it listens on.",
           "KPI listen_ports", READ),
    Family("excise_samples_total", "counter", "samples", WORKLOAD, "Timer samples.", "quality: samples"),
    Family("excise_losses_total", "counter", "events", ("workload", "reason"),
           "What the watching missed, by name. No loss changes a total: its time is unattributed.", "summary: lost"),
    Family("excise_watch_cpu_seconds_total", "counter", "seconds", ("workload", "part"),
           "CPU time that watching took: agent (our processes), bpf (our kernel programs), tick (our timer).",
           "summary: cost", "bpf: 1 run in 64 is timed; tick: a calibrated cost for each"),
    Family("excise_watch_target_cpu_seconds_total", "counter", "seconds", WORKLOAD,
           "CPU time of the target meanwhile: what that cost is a share of.", "summary: cost", TICKS),
    Family("excise_unknown_windows_total", "counter", "windows", ("workload", "metric"),
           "Windows that added nothing to a counter because its value was not known. Absent: none.",
           "summary: numbers that are not known"),
)
"""Of a workload, from its summaries."""

AGENT: Final = (
    Family("excise_build_info", "info", "1", ("version", "python"), "Version of Excise, and of the Python under it.",
           "agent"),
    Family("excise_agent_start_time_seconds", "gauge", "seconds since 1970", (), "When the agent was started.", "agent",
           OWN),
    Family("excise_agent_cpu_seconds_total", "counter", "seconds", ("part",),
           "CPU time since the start: agent (our processes), bpf (our kernel programs), tick (our timer).", "agent",
           "bpf: 1 run in 64 is timed; tick: a calibrated cost for each"),
    Family("excise_agent_resident_memory_bytes", "gauge", "bytes", (), "Resident memory of the agent.", "agent", READ),
    Family("excise_agent_overhead_ratio", "gauge", "ratio", (),
           "What watching cost in the last window, as a share of the watched processes' CPU time.", "governor",
           "as its parts: see excise_agent_cpu_seconds_total"),
    Family("excise_agent_budget_ratio", "gauge", "ratio", (),
           "What it may cost. Absent: no limit.", "configuration: [agent] budget_ratio"),
    Family("excise_agent_sample_rate_hertz", "gauge", "hertz", (), "Samples per second and CPU, now.", "governor"),
    Family("excise_agent_steps_down", "gauge", "steps", (),
           "How many steps the governor is down its ladder: 0 sees everything.", "governor"),
    Family("excise_agent_step_info", "info", "1", ("step",), "The step's name.", "governor"),
    Family("excise_probe_attached", "gauge", "1 or 0", ("probe",), "Whether a probe is attached.", "agent"),
    Family("excise_watched_processes", "gauge", "processes", (), "Processes that are watched now.", "discovery"),
    Family("excise_watched_workloads", "gauge", "workloads", (), "Workloads that are watched now.", "discovery"),
    Family("excise_discovery_scans_total", "counter", "scans", (), "How often discovery looked for processes.",
           "discovery", OWN),
    Family("excise_discovery_scan_seconds_total", "counter", "seconds", (), "CPU time of these scans.", "discovery",
           OWN),
    Family("excise_discovery_last_scan_timestamp_seconds", "gauge", "seconds since 1970", (),
           "When discovery last looked.", "discovery", OWN),
    Family("excise_windows_lost_total", "counter", "windows", ("reason",),
           "Windows that were begun and have no summary, by reason.", "spool", OWN),
    Family("excise_windows_unexposed_total", "counter", "windows", (),
           "Windows of workloads beyond the most that are exposed here. They are in the spool and the other sinks.",
           "this endpoint"),
    Family("excise_spool_bytes", "gauge", "bytes", (), "Size of the spool on disk.", "spool"),
    Family("excise_spool_limit_bytes", "gauge", "bytes", (), "What it may hold before the oldest is dropped.",
           "configuration: [history] most_bytes"),
    Family("excise_spool_entries", "gauge", "windows", (), "Windows in the spool.", "spool"),
    Family("excise_spool_oldest_timestamp_seconds", "gauge", "seconds since 1970", (),
           "When the oldest window in the spool began.", "spool"),
    Family("excise_sink_info", "info", "1", ("sink", "kind"), "A sink that is configured.", "configuration"),
    Family("excise_sink_up", "gauge", "1 or 0", ("sink",),
           "Whether its last delivery succeeded. Absent: none was tried.", "shipper"),
    Family("excise_sink_delivered_windows_total", "counter", "windows", ("sink",),
           "Windows that the peer acknowledged.", "shipper", OWN),
    Family("excise_sink_lost_windows_total", "counter", "windows", ("sink", "reason"),
           "Windows that were never delivered, by reason.", "shipper", OWN),
    Family("excise_sink_failures_total", "counter", "attempts", ("sink",),
           "Deliveries that failed, each tried again. The error's text is in `excise status`.", "shipper", OWN),
    Family("excise_sink_lag_windows", "gauge", "windows", ("sink",), "Windows in the spool that it has yet to deliver.",
           "shipper"),
    Family("excise_sink_lag_seconds", "gauge", "seconds", ("sink",), "Age of the oldest of these; 0: none is left.",
           "shipper"),
    Family("excise_sink_last_success_timestamp_seconds", "gauge", "seconds since 1970", ("sink",),
           "When a delivery last succeeded.", "shipper", OWN),
    Family("excise_sink_last_error_timestamp_seconds", "gauge", "seconds since 1970", ("sink",),
           "When a delivery last failed.", "shipper", OWN),
    Family("excise_endpoint_dropped_connections_total", "counter", "connections", ("reason",),
           "Connections to this endpoint that got no answer: slow, crowded_out, failed.", "this endpoint"),
)
"""Of the agent, from its own state."""

FAMILIES: Final = {family.name: family for family in (*WORKLOADS, *AGENT)}


@dataclass(frozen=True, slots=True)
class Fed:
    """A number of a summary (excise.summary.numbers) that feeds a metric. `per`: how many of its unit are one of the
    metric's. `part`: value of the metric's second label; "" it has none."""

    section: str
    number: str
    metric: str
    per: float = 1
    part: str = ""


NS: Final = 1e9

NUMBERS: Final = (
    Fed("kpis", "cpu_ns", "excise_workload_cpu_seconds_total", NS),
    Fed("kpis", "throttled_ns", "excise_workload_throttled_seconds_total", NS),
    Fed("kpis", "disk_read_bytes", "excise_workload_disk_read_bytes_total"),
    Fed("kpis", "disk_write_bytes", "excise_workload_disk_written_bytes_total"),
    Fed("kpis", "net_in_bytes", "excise_workload_network_receive_bytes_total"),
    Fed("kpis", "net_out_bytes", "excise_workload_network_transmit_bytes_total"),
    Fed("kpis", "rss_bytes", "excise_workload_resident_memory_bytes"),
    Fed("kpis", "quota_millicpus", "excise_workload_quota_cpus", 1000),
    Fed("kpis", "allowed_cpus", "excise_workload_allowed_cpus"),
    Fed("kpis", "threads", "excise_workload_threads"),
    Fed("kpis", "carriers", "excise_workload_carriers"),
    Fed("kpis", "listen_ports", "excise_workload_listen_ports"),
    Fed("quality", "samples", "excise_samples_total"),
    Fed("cost", "agent_ns", "excise_watch_cpu_seconds_total", NS, "agent"),
    Fed("cost", "bpf_ns", "excise_watch_cpu_seconds_total", NS, "bpf"),
    Fed("cost", "tick_ns", "excise_watch_cpu_seconds_total", NS, "tick"),
    Fed("cost", "target_cpu_ns", "excise_watch_target_cpu_seconds_total", NS),
)
