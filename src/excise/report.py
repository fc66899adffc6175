"""The report: what a session found, as one frozen value. Exporters read it and nothing else.

`to_json` gives the public contract `excise.report/1`: extended, never renamed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from excise.frames import Frame, Process
from excise.names import STAGES
from excise.workload import Workload

SCHEMA = "excise.report/1"


MISSING: Final = (
    "lighter_stacks",  # time of a cell in stacks that were too light to be kept, or that had none of its own
    "stacks_not_kept",  # helpers' time: a summary has no stacks of theirs
)
"""Why a row of a report out of summaries has no frames. In a session every stack is kept."""


@dataclass(frozen=True, slots=True)
class StackRow:
    """Time of one stack in one stage and state. `ns` is an estimate for running states, else exact."""

    stage: str
    reason: str | None  # of UNATTRIBUTED, when stage is "unattributed"
    substage: str | None
    state: str  # of STATES
    frames: tuple[Frame, ...]  # leaf first; empty when none was walked
    ns: int
    count: int  # records behind it
    pid: int
    thread: str  # thread name
    carrier: bool  # False: a helper's, outside the stage shares
    wait: str = ""  # what it waited on, in words ("futex", "read pipe", "epoll_wait"); "" on CPU
    missing: str = ""  # of MISSING: why it has no frames, though stacks may have been walked


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """One thread's exact totals and how they compare with schedstat."""

    pid: int
    tid: int
    name: str
    carrier: bool
    lifetime_ns: int
    states_ns: dict[str, int]  # KERNEL_STATES -> ns
    stages_ns: dict[str, int]  # STAGES -> ns, carriers only
    samples: int
    sched_running_ns: int | None
    sched_runnable_ns: int | None


@dataclass(frozen=True, slots=True)
class HelperRow:
    """Pool threads without Python state, by the library they run."""

    library: str
    threads: int
    cpu_ns: int
    states_ns: dict[str, int]  # KERNEL_STATES -> ns


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch of time, ns since 1970, that was not watched."""

    start_wall_ns: int
    end_wall_ns: int
    reason: str | None = None  # in words; None: not known


@dataclass(frozen=True, slots=True)
class History:
    """What a report is made of that comes out of summaries: windows of a range of the wall clock, ns since 1970.

    The range is the one that was asked for, out to the edges of the windows in which it begins and ends.
    """

    workload: Workload | None  # None: not known
    windows: int
    start_wall_ns: int
    end_wall_ns: int
    watched_ns: int  # of the range
    holes: tuple[Hole, ...] = ()  # the rest of it


@dataclass(frozen=True, slots=True)
class Report:
    boot_id: str
    target: dict[str, Any]
    processes: tuple[Process, ...]
    host: dict[str, Any]  # cpus, quota_cpus, throttled_ns, cpus_used, rss_bytes, disk_*_bytes, net_*_bytes
    start_wall_ns: int
    start_mono_ns: int
    duration_ns: int  # watched, in all
    end_reason: str  # "" of summaries
    rate_hz: float
    stages: dict[str, dict[str, int | None]]  # stage -> state -> carrier ns; None: not measured
    stages_se_ns: dict[str, int | None]  # standard error of each stage's sum; None: unknown
    substages: dict[str, dict[str, int | None]]
    helpers: tuple[HelperRow, ...]
    ai_tax_ratio: float | None
    ai_tax_se: float | None
    quality: dict[str, Any]  # samples, lost, unattributed, unattributed_ratio, schedstat
    overhead: dict[str, Any]
    threads: tuple[ThreadRow, ...]
    stacks: tuple[StackRow, ...]  # every row, heaviest first
    notes: tuple[str, ...] = field(default=())  # sentences a reader must know ("2 threads untracked: ...")
    history: History | None = None  # of a report out of summaries; None: of a session

    def stage_ns(self, stage: str) -> int:
        """Carrier time of a stage over all states, ns."""
        return sum(v or 0 for v in self.stages[stage].values())

    def total_ns(self) -> int:
        """All carrier time, ns."""
        return sum(self.stage_ns(s) for s in STAGES)


def _frame(frame: Frame) -> dict[str, Any]:
    return {"kind": frame.kind, "file": frame.file, "name": frame.name, "line": frame.line}


def _history(history: History) -> dict[str, Any]:
    workload = history.workload
    return {
        "workload": None if workload is None else {"name": workload.name, "kind": workload.kind},
        "windows": history.windows,
        "start_wall_ns": history.start_wall_ns,
        "end_wall_ns": history.end_wall_ns,
        "watched_ns": history.watched_ns,
        "holes": [
            {"start_wall_ns": h.start_wall_ns, "end_wall_ns": h.end_wall_ns, "reason": h.reason} for h in history.holes
        ],
    }


def to_json(report: Report, max_stacks: int = 200) -> dict[str, Any]:
    """The JSON contract. Times in ns of carrier-thread time; `null` where not measured."""
    target = dict(report.target)
    target["processes"] = [
        {
            "pid": p.pid,
            "start_ns": p.start_ns,
            "comm": p.comm,
            "python": p.python,
            "parent": p.parent,
            "ns_pid": p.ns_pid or None,
            "host_pid": p.host_pid or None,
            "note": p.note,
        }
        for p in report.processes
    ]
    return {
        "schema": SCHEMA,
        "boot_id": report.boot_id,
        "target": target,
        "host": report.host,
        "window": {
            "start_wall_ns": report.start_wall_ns,
            "start_mono_ns": report.start_mono_ns,
            "duration_ns": report.duration_ns,
            "end_reason": report.end_reason,
            "rate_hz": report.rate_hz,
        },
        "stages": report.stages,
        "stages_se_ns": report.stages_se_ns,
        "substages": report.substages,
        "helpers": [
            {"library": h.library, "threads": h.threads, "cpu_ns": h.cpu_ns, "states_ns": h.states_ns}
            for h in report.helpers
        ],
        "ai_tax_ratio": report.ai_tax_ratio,
        "ai_tax_se": report.ai_tax_se,
        "quality": report.quality,
        "overhead": report.overhead,
        "threads": [
            {
                "pid": t.pid,
                "tid": t.tid,
                "name": t.name,
                "carrier": t.carrier,
                "lifetime_ns": t.lifetime_ns,
                "states_ns": t.states_ns,
                "stages_ns": t.stages_ns,
                "samples": t.samples,
                "sched_running_ns": t.sched_running_ns,
                "sched_runnable_ns": t.sched_runnable_ns,
            }
            for t in report.threads
        ],
        "stacks": [
            {
                "stage": s.stage,
                "reason": s.reason,
                "substage": s.substage,
                "state": s.state,
                "ns": s.ns,
                "count": s.count,
                "pid": s.pid,
                "thread": s.thread,
                "carrier": s.carrier,
                "wait": s.wait,
                "missing": s.missing or None,
                "frames": [_frame(f) for f in s.frames],
            }
            for s in report.stacks[:max_stacks]
        ],
        "notes": list(report.notes),
        "history": None if report.history is None else _history(report.history),
    }
