"""Items as an agent's spool gives them: small windows, each different, whose numbers a test can work out."""

from __future__ import annotations

from excise.frames import Frame, Process
from excise.spool import Entry
from excise.summary import Span, Summary, SummaryBuilder
from excise.workload import Workload
from excise_agent.sinks import AgentInfo

AGENT = AgentInfo("7c9e6679-7425-40de-944b-e07fc1f90ae7", "gpu-01", "0.2.0")
VLLM = Workload("vllm.service", "unit")
WINDOW_NS = 10 * 10**9
START_WALL_NS = 1_790_000_000 * 10**9


def summary(index: int = 0, start_wall_ns: int = START_WALL_NS, comm: str = "vllm") -> Summary:
    """Two processes; 3 s compute, 1 s preprocess (each less `index` ns), 5 s idle, 200 ms of it with a stack."""
    start = start_wall_ns + index * WINDOW_NS
    builder = SummaryBuilder(boot_id="b0", version="0.2.0", collector="bpf", rate_hz=19, capabilities=["ring"],
                             span=Span(start, start + WINDOW_NS, 5000, 5000 + WINDOW_NS))
    for pid in (41, 42):
        process = builder.process(Process(pid, 7, comm, "3.11.7", 1), root=pid == 41)
        builder.cell(process, "compute.cpu", "running_user", 1_500_000_000, 4e12)
        builder.cell(process, "preprocess", "gil", 500_000_000 - index, 0)
        builder.cell(process, "idle", "net", 2_500_000_000, 0)
        frames = [Frame("python", "app/resize.py", "Resize.run", 30)]
        builder.stack(process, "preprocess", "gil", frames, 100_000_000, 2)
    builder.errors({"compute": 8e12, "preprocess": 0}, 8e12, 0, 0)
    return builder.build(kpis={"cpu_ns": 3_100_000_000, "quota_millicpus": None}, quality={"samples": 60},
                         cost={"agent_ns": 10**7, "bpf_ns": 10**6, "tick_ns": 0, "target_cpu_ns": 3_100_000_000},
                         lost={"ring_full": 3}, steps={})


def entry(sequence: int, workload: Workload = VLLM, start_wall_ns: int = START_WALL_NS) -> Entry:
    return Entry(sequence, workload, summary(sequence, start_wall_ns))


def entries(first: int, last: int) -> list[Entry]:
    return [entry(sequence) for sequence in range(first, last + 1)]
