"""Where the time went by stack: the flame graph's rows, which add up to the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_FAULT, SLICE_KERNEL_MODE
from excise.ledger.classes import CLASSES, class_id
from excise.ledger.estimate import RunningSplit
from excise.ledger.threads import Threads
from excise.names import FD_CLASSES, KERNEL_STATE_ID, KERNEL_STATES
from excise.report import StackRow
from excise.session import Session
from excise.stages import Verdict
from excise.syscalls import syscall_name

RUNNING, RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]
_Whose = tuple[int, str, bool]  # pid, thread name, carrier
_Key = tuple[Verdict, str, int, _Whose, str]  # and state, stack, wait


def stack_rows(
    session: Session,
    slices: NDArray[np.void],
    threads: Threads,
    of_row: NDArray[np.int64],
    waits: Sequence[Verdict],
    runs: Sequence[Verdict],
    off_cpu: NDArray[np.float64],
    on_cpu: RunningSplit,
    scale: NDArray[np.float64],
) -> tuple[StackRow, ...]:
    """One row per (stage, state, stack, process, thread name), heaviest first.

    A wait counts as it does in the ledger (`scale`), a sample for the time that one stands for. What the ledger
    (`off_cpu`, `on_cpu`) has beyond that is put in rows without frames: time that was stolen, lost, never sampled, or
    split by the samples of other threads.
    """
    gathered: dict[_Key, list[float]] = {}
    rest = _ledger(threads, off_cpu, on_cpu)

    def gather(i: int, verdict: Verdict, state: str, ns: float, wait: str, bearer: int) -> None:
        whose = _whose(threads, int(of_row[i]))
        cell = gathered.setdefault((verdict, state, int(slices[i]["stack"]), whose, wait), [0.0, 0.0])
        cell[0] += ns
        cell[1] += float(slices[i]["count"])
        rest[class_id(verdict.stage, verdict.substage, verdict.reason), state, _whose(threads, bearer)] -= ns

    for i, row in enumerate(slices):
        thread, state = int(of_row[i]), int(row["state"])
        if state == RUNNING:
            mode = "running_kernel" if row["flags"] & SLICE_KERNEL_MODE else "running_user"
            gather(i, runs[i], mode, float(row["count"]) * on_cpu.sample_ns[thread], "", int(on_cpu.first[thread]))
            continue
        ns = float(row["weight_ns"]) * scale[thread, state]
        gather(i, waits[i], KERNEL_STATES[state], ns, _wait_words(row), thread)
        if row["runnable_ns"]:
            gather(i, runs[i], "runnable", float(row["runnable_ns"]) * scale[thread, RUNNABLE], "", thread)
    for (number, name, whose), ns in rest.items():
        stage, part = CLASSES[number]
        verdict = Verdict(stage, part if stage == "compute" else None, part if stage == "unattributed" else None, "")
        gathered.setdefault((verdict, name, 0, whose, ""), [0.0, 0.0])[0] += ns
    return tuple(sorted((_row(session, key, *cell) for key, cell in gathered.items() if cell[0] >= 1),
                        key=lambda r: -r.ns))


def _whose(threads: Threads, thread: int) -> _Whose:
    return threads.keys[thread][0], threads.names[thread], bool(threads.carrier[thread])


def _ledger(
    threads: Threads, off_cpu: NDArray[np.float64], on_cpu: RunningSplit
) -> defaultdict[tuple[int, str, _Whose], float]:
    """(class, state, whose) -> ns."""
    out: defaultdict[tuple[int, str, _Whose], float] = defaultdict(float)
    for thread, number, mode in np.argwhere(on_cpu.ns).tolist():
        key = number, ("running_user", "running_kernel")[mode], _whose(threads, int(on_cpu.first[thread]))
        out[key] += float(on_cpu.ns[thread, number, mode])
    for thread, state, number in np.argwhere(off_cpu).tolist():
        out[number, KERNEL_STATES[state], _whose(threads, thread)] += float(off_cpu[thread, state, number])
    return out


def _row(session: Session, key: _Key, ns: float, count: float) -> StackRow:
    verdict, state, stack, (pid, name, carrier), wait = key
    return StackRow(
        stage=verdict.stage,
        reason=verdict.reason,
        substage=verdict.substage,
        state=state,
        frames=tuple(session.frames[f] for f in session.stacks[stack]),
        ns=round(ns),
        count=int(count),
        pid=pid,
        thread=name,
        carrier=carrier,
        wait=wait,
    )


def _wait_words(row: Any) -> str:
    if row["flags"] & SLICE_FAULT:
        return "page fault"
    name = syscall_name(int(row["syscall"]))
    fd_class = FD_CLASSES[int(row["fd_class"])]
    return name if fd_class in ("none", "unknown") else f"{name} {fd_class}"
