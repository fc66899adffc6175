"""Streams made by hand, and rules that a test can read in its own lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, Definitions, End, Header, Item, Totals
from excise.frames import Frame, Process, Thread
from excise.ledger.build import build_report
from excise.names import KERNEL_STATE_ID, STAGES, SUBSTAGES, UNATTRIBUTED
from excise.report import Report
from excise.session import Session
from excise.stages import Rules, ThreadContext, Verdict, Wait

PID, SECOND = 100, 1_000_000_000
STACKS = (*STAGES, *SUBSTAGES, *(r for r in UNATTRIBUTED if r not in ("no_sample", "lost")))
"""Each stack is one Python frame, called what its verdict is."""
STACK_ID = {name: 1 + i for i, name in enumerate(STACKS)}
HEADER = Header("boot-1", {"cpus": 2}, {"pid": PID, "comm": "python", "collector": "bpf"}, 5 * SECOND, SECOND, 99.0)
END = End(11 * SECOND, "duration", {"agent_cpu_ratio": 0.001})


class FrameRules:
    """The innermost frame's name is the verdict: a stage, a part of compute, or a reason."""

    def attribute(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Verdict:
        if not frames:
            return Verdict("unattributed", None, "no_stack", "")
        name = frames[0].name
        if name in SUBSTAGES:
            return Verdict("compute", name, None, name)
        if name in UNATTRIBUTED:
            return Verdict("unattributed", None, name, "")
        if name == "waits-differ":
            return Verdict("serving" if wait is None else "idle", None, None, name)
        return Verdict(name, None, None if name != "unattributed" else "no_rule", name)


def definitions(threads: Iterable[Thread] = (), python: str | None = "3.11.7", note: str = "") -> Definitions:
    return Definitions([Frame("python", "/srv/app.py", name) for name in STACKS], [(i,) for i in range(len(STACKS))],
                       [Process(PID, 7, "python", python, note=note)], list(threads))


def slices(*rows: dict[str, Any]) -> NDArray[np.void]:
    """`stack` by name and `state` by name; fd and syscall are none unless told."""
    out = np.zeros(len(rows), SLICE_DTYPE)
    for row, given in zip(out, rows, strict=True):
        given = {"pid": PID, "tid": PID, "fd": 255, "syscall": -1, "count": 1, "stack": 0, **given}
        for name, value in given.items():
            if isinstance(value, str):
                value = KERNEL_STATE_ID[value] if name == "state" else STACK_ID[value]
            row[name] = value
    return out


def totals(*rows: dict[str, int]) -> NDArray[np.void]:
    """States by name; the lifetime is their sum; schedstat is not measured unless told."""
    out = np.zeros(len(rows), TOTALS_DTYPE)
    for row, given in zip(out, rows, strict=True):
        given = {"pid": PID, "tid": PID, "sched_running_ns": -1, "sched_runnable_ns": -1, **given}
        for name, value in given.items():
            if name in KERNEL_STATE_ID:
                row["state_ns"][KERNEL_STATE_ID[name]] = value
            else:
                row[name] = value
        row["lifetime_ns"] = row["state_ns"].sum()
    return out


def stream(
    rows: NDArray[np.void],
    sums: NDArray[np.void],
    threads: Iterable[Thread] = (Thread(PID, PID, "main", True),),
    *,
    lost: dict[str, int] | None = None,
    header: Header = HEADER,
    python: str | None = "3.11.7",
    note: str = "",
) -> list[Item]:
    return [header, definitions(threads, python, note), Batch(SECOND, 11 * SECOND, rows, lost or {}),
            Totals(SECOND, 11 * SECOND, sums), END]


def session_of(items: Iterable[Item]) -> Session:
    session = Session(cast(Rules, FrameRules()))
    for item in items:
        session.feed(item)
    return session


def report_of(items: Iterable[Item]) -> Report:
    return build_report(session_of(items))


def sample(stack: str | int, count: int, **more: Any) -> dict[str, Any]:
    return {"state": "running", "stack": stack, "count": count, **more}


def waited(stack: str | int, state: str, ns: int, runnable: int = 0, **more: Any) -> dict[str, Any]:
    return {"state": state, "stack": stack, "weight_ns": ns, "runnable_ns": runnable, **more}


def nonzero(report: Report) -> dict[tuple[str, str], int]:
    """(stage, state) -> ns, where there is any."""
    return {(stage, state): ns for stage, states in report.stages.items() for state, ns in states.items() if ns}


