"""From a session's sums to the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_FAULT, SLICE_KERNEL_MODE
from excise.frames import Frame
from excise.ledger.classes import CLASSES, class_id
from excise.ledger.estimate import RunningSplit, split_running, split_stolen, split_waits
from excise.names import (
    FD_CLASSES,
    KERNEL_STATE_ID,
    KERNEL_STATES,
    STAGES,
    STATES,
    SUBSTAGES,
    UNATTRIBUTED,
)
from excise.report import HelperRow, Report, StackRow, ThreadRow
from excise.session import Session
from excise.stages import ThreadContext, Verdict, Wait
from excise.syscalls import syscall_name

RUNNING, RUNNABLE, GIL, STOLEN = (KERNEL_STATE_ID[n] for n in ("running", "runnable", "gil", "stolen"))
_AS_IF_RUNNING = (RUNNING, RUNNABLE, GIL)
_NOT_A_LIBRARY = ("libc.so", "libc-", "ld-linux", "libpthread", "[vdso]", "libm.so", "libstdc++")
_POOL_LIBRARIES = ("libgomp", "libiomp5", "libomp", "libonnxruntime", "libmkl", "libnccl", "libtbb")


def strip_digits(name: str) -> str:
    """A thread's name without its number: "worker-3" and "worker-12" are one stratum."""
    return "".join(c for c in name if not c.isdigit())


@dataclass(slots=True)
class _Threads:
    """Who the rows belong to, by index."""

    keys: list[tuple[int, int]]
    names: list[str]
    carrier: NDArray[np.bool_]
    index: dict[tuple[int, int], int] = field(default_factory=dict)


def build_report(session: Session) -> Report:
    """The report of everything fed so far. Raises ValueError when the stream has no header."""
    if session.header is None:
        raise ValueError("the stream has no header")
    slices = session.slices()
    totals = session.totals_array()
    threads = _who(session, slices, totals)
    slices = slices[[(int(r["pid"]), int(r["tid"])) in threads.index for r in slices]] if len(slices) else slices
    of_row = np.array([threads.index[int(r["pid"]), int(r["tid"])] for r in slices], np.int64)
    waits, runs = _verdicts(session, slices, threads, of_row)
    wait_class = np.array([class_id(v.stage, v.substage, v.reason) for v in waits], np.int64)
    run_class = np.array([class_id(v.stage, v.substage, v.reason) for v in runs], np.int64)

    n = len(threads.keys)
    records = np.zeros((n, len(KERNEL_STATES), len(CLASSES)), np.int64)
    samples = np.zeros((n, len(CLASSES), 2), np.int64)
    is_sample = slices["state"] == RUNNING
    waiting = ~is_sample
    np.add.at(
        records,
        (of_row[waiting], slices["state"][waiting].astype(np.int64), wait_class[waiting]),
        slices["weight_ns"][waiting],
    )
    np.add.at(records, (of_row[waiting], RUNNABLE, run_class[waiting]), slices["runnable_ns"][waiting])
    mode = (slices["flags"] & SLICE_KERNEL_MODE).astype(np.int64)
    np.add.at(
        samples, (of_row[is_sample], run_class[is_sample], mode[is_sample]), slices["count"][is_sample].astype(np.int64)
    )

    state_ns = np.maximum(totals["state_ns"], 0)
    strata = [
        (pid, ("" if carrier else "~") + strip_digits(name))
        for (pid, _), name, carrier in zip(threads.keys, threads.names, threads.carrier, strict=True)
    ]
    some_lost = bool(session.lost.get("ring_full"))
    off_cpu = split_waits(state_ns, records, some_lost)
    on_cpu = split_running(state_ns[:, RUNNING], samples, strata, threads.carrier)
    off_cpu[:, STOLEN] = split_stolen(state_ns[:, STOLEN], on_cpu.ns.sum(axis=2))

    stages, substages = _ledger(off_cpu, on_cpu, threads.carrier, measured=session.header.rate_hz > 0)
    se = _stage_errors(on_cpu)
    tax, tax_se = _ai_tax(stages, on_cpu)
    stack_rows = _stack_rows(session, slices, threads, of_row, waits, runs, on_cpu, state_ns, records, some_lost)
    return Report(
        boot_id=session.header.boot_id,
        target=dict(session.header.target),
        processes=tuple(session.processes.values()),
        host={**session.header.host, **{k: v for k, v in session.host.items() if k != "listen_ports"}},
        start_wall_ns=session.header.start_wall_ns,
        start_mono_ns=session.header.start_mono_ns,
        duration_ns=max(session.stop_ns - session.start_ns, 0),
        end_reason=session.end.reason if session.end else "cut off",
        rate_hz=session.header.rate_hz,
        stages=stages,
        stages_se_ns=se,
        substages=substages,
        helpers=_helpers(session, slices, threads, of_row, state_ns),
        ai_tax_ratio=tax,
        ai_tax_se=tax_se,
        quality=_quality(session, stages, samples, totals, off_cpu, on_cpu, threads.carrier),
        overhead=dict(session.end.overhead) if session.end else {},
        threads=_thread_rows(session, threads, totals, off_cpu, on_cpu, samples),
        stacks=stack_rows,
        notes=_notes(session),
    )


def _who(session: Session, slices: NDArray[np.void], totals: NDArray[np.void]) -> _Threads:
    keys = [(int(r["pid"]), int(r["tid"])) for r in totals]
    index = {k: i for i, k in enumerate(keys)}
    python = {i for i, stack in enumerate(session.stacks) if any(session.frames[f].kind == "python" for f in stack)}
    ran_python = {(int(r["pid"]), int(r["tid"])) for r in slices if int(r["stack"]) in python}
    leaf = _libraries(session, slices)
    names, carrier = [], []
    for pid, tid in keys:
        thread = session.threads.get(tid)
        process = session.processes.get(pid)
        names.append(thread.name if thread and thread.pid == pid else "")
        if process is not None and process.python is None and not process.note:
            carrier.append(not leaf.get((pid, tid), "").startswith(_POOL_LIBRARIES))
        else:
            carrier.append((pid, tid) in ran_python or bool(thread and thread.pid == pid and thread.carrier))
    return _Threads(keys, names, np.array(carrier, bool), index)


def _libraries(session: Session, slices: NDArray[np.void]) -> dict[tuple[int, int], str]:
    """The library that each thread runs most (by samples, else by waits), the C library and the loader aside."""
    weights: dict[tuple[int, int], dict[str, float]] = {}
    for row in slices:
        for frame_id in session.stacks[int(row["stack"])]:
            frame = session.frames[frame_id]
            if frame.kind == "native" and frame.file:
                name = PurePosixPath(frame.file).name
                if not name.startswith(_NOT_A_LIBRARY):
                    per = weights.setdefault((int(row["pid"]), int(row["tid"])), {})
                    weight = 1e3 * float(row["count"]) if int(row["state"]) == RUNNING else 1e-3
                    per[name] = per.get(name, 0.0) + weight
                break
    return {key: max(per, key=lambda n: per[n]) for key, per in weights.items()}


def _verdicts(
    session: Session, slices: NDArray[np.void], threads: _Threads, of_row: NDArray[np.int64]
) -> tuple[list[Verdict], list[Verdict]]:
    """By row: the verdict on its wait, and the one on its stack as if it ran."""
    inbound_ports = set(session.host.get("listen_ports") or ())
    known: dict[tuple[Any, ...], Verdict] = {}
    frames_of: dict[int, tuple[Frame, ...]] = {}
    waits, runs = [], []
    for i, row in enumerate(slices):
        stack, state = int(row["stack"]), int(row["state"])
        thread = int(of_row[i])
        pid, tid = threads.keys[thread]
        process = session.processes.get(pid)
        context = ThreadContext(
            name=threads.names[thread],
            carrier=bool(threads.carrier[thread]),
            main=pid == tid,
            python=bool(process and (process.python or process.note)),
        )
        frames = frames_of.get(stack)
        if frames is None:
            frames = frames_of[stack] = tuple(session.frames[f] for f in session.stacks[stack])
        base = (stack, context)
        run = known.get(base)
        if run is None:
            run = known[base] = session.rules.attribute(frames, None, context)
        runs.append(run)
        if state in _AS_IF_RUNNING:
            waits.append(run)
            continue
        wait = _wait(row, inbound_ports)
        key = (*base, wait)
        verdict = known.get(key)
        if verdict is None:
            verdict = known[key] = session.rules.attribute(frames, wait, context)
        waits.append(verdict)
    return waits, runs


def _wait(row: Any, inbound_ports: set[int]) -> Wait:
    fd_class = FD_CLASSES[int(row["fd_class"])]
    inbound: bool | None = None
    if fd_class == "listen":
        inbound = True
    elif fd_class == "inet":
        inbound = int(row["port"]) in inbound_ports if row["port"] else None
    fd = int(row["fd"])
    number = int(row["syscall"])
    return Wait(
        state=KERNEL_STATES[int(row["state"])],
        syscall=number,
        syscall_name=syscall_name(number),
        fd_class=fd_class,
        fd=fd if fd < 254 else None,
        inbound=inbound,
    )


def _ledger(
    off_cpu: NDArray[np.float64],
    on_cpu: RunningSplit,
    carrier: NDArray[np.bool_],
    measured: bool,
) -> tuple[dict[str, dict[str, int | None]], dict[str, dict[str, int | None]]]:
    waits = off_cpu[carrier].sum(axis=0)  # (S, C)
    runs = on_cpu.ns[carrier].sum(axis=0)  # (C, M)
    stages: dict[str, dict[str, int | None]] = {s: dict.fromkeys(STATES, 0) for s in STAGES}
    substages: dict[str, dict[str, int | None]] = {s: dict.fromkeys(STATES, 0) for s in SUBSTAGES}
    for c, (stage, part) in enumerate(CLASSES):
        cells: dict[str, float] = {"running_user": runs[c, 0], "running_kernel": runs[c, 1]}
        cells |= {name: waits[i, c] for i, name in enumerate(KERNEL_STATES) if i != RUNNING}
        for name, value in cells.items():
            rows = [stages[stage]] + ([substages[part]] if stage == "compute" and part else [])
            for target in rows:
                target[name] = (target[name] or 0) + round(value)
    if not measured:  # without samples, user and kernel time cannot be told apart
        for row in stages.values():
            row["running_kernel"] = None
    return stages, substages


def _stage_errors(on_cpu: RunningSplit) -> dict[str, int | None]:
    out: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    for c, (stage, _) in enumerate(CLASSES):
        out[stage] += float(on_cpu.variance[c])
    return {stage: round(math.sqrt(v)) for stage, v in out.items()}


def _ai_tax(stages: dict[str, dict[str, int | None]], on_cpu: RunningSplit) -> tuple[float | None, float | None]:
    """1 - compute / (all - idle - handoff), and its standard error (delta method on the sampled part)."""
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    busy = sum(sums.values()) - sums["idle"] - sums["handoff"]
    if busy <= 0:
        return None, None
    compute = sums["compute"]
    variance = {s: sum(float(on_cpu.variance[c]) for c, (stage, _) in enumerate(CLASSES) if stage == s) for s in STAGES}
    spread = variance["compute"] + (compute / busy) ** 2 * (variance["idle"] + variance["handoff"])
    return 1 - compute / busy, math.sqrt(spread) / busy


def _helpers(
    session: Session,
    slices: NDArray[np.void],
    threads: _Threads,
    of_row: NDArray[np.int64],
    state_ns: NDArray[np.int64],
) -> tuple[HelperRow, ...]:
    libraries = _libraries(session, slices)
    groups: dict[str, list[int]] = {}
    for i, key in enumerate(threads.keys):
        if not threads.carrier[i]:
            name = libraries.get(key) or _pool(session, key) or f"unknown ({strip_digits(threads.names[i]) or 'unnamed'})"
            groups.setdefault(name, []).append(i)
    rows = [
        HelperRow(
            library=name,
            threads=len(members),
            cpu_ns=int(state_ns[members, RUNNING].sum()),
            states_ns={s: int(state_ns[members, k].sum()) for k, s in enumerate(KERNEL_STATES)},
        )
        for name, members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda r: -r.cpu_ns))


def _pool(session: Session, key: tuple[int, int]) -> str:
    thread = session.threads.get(key[1])
    return thread.library if thread is not None and thread.pid == key[0] else ""


def _quality(
    session: Session,
    stages: dict[str, dict[str, int | None]],
    samples: NDArray[np.int64],
    totals: NDArray[np.void],
    off_cpu: NDArray[np.float64],
    on_cpu: RunningSplit,
    carrier: NDArray[np.bool_],
) -> dict[str, Any]:
    reasons = dict.fromkeys(UNATTRIBUTED, 0.0)
    for c, (stage, reason) in enumerate(CLASSES):
        if stage == "unattributed" and reason:
            reasons[reason] += float(off_cpu[carrier][:, :, c].sum() + on_cpu.ns[carrier][:, c].sum())
    everything = sum(v or 0 for states in stages.values() for v in states.values())
    checked = totals[(totals["sched_running_ns"] >= 0) & (totals["sched_runnable_ns"] >= 0)]
    ratios: dict[str, float | None] = {"running_ratio": None, "runnable_ratio": None}
    for name, state, reference in (
        ("running_ratio", RUNNING, "sched_running_ns"),
        ("runnable_ratio", RUNNABLE, "sched_runnable_ns"),
    ):
        base = int(checked[reference].sum())
        if base > 0:
            ratios[name] = float(checked["state_ns"][:, state].sum()) / base
    return {
        "samples": int(samples.sum()),
        "carrier_samples": int(samples[carrier].sum()),
        "lost": {"ring_full": 0, **session.lost},
        "unattributed": {r: round(v) for r, v in reasons.items()},
        "unattributed_ratio": sum(reasons.values()) / everything if everything else None,
        "schedstat": ratios,
    }


def _thread_rows(
    session: Session,
    threads: _Threads,
    totals: NDArray[np.void],
    off_cpu: NDArray[np.float64],
    on_cpu: RunningSplit,
    samples: NDArray[np.int64],
) -> tuple[ThreadRow, ...]:
    rows = []
    for i, (pid, tid) in enumerate(threads.keys):
        by_class = off_cpu[i].sum(axis=0) + on_cpu.ns[i].sum(axis=1)
        per_stage: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        for c, (stage, _) in enumerate(CLASSES):
            per_stage[stage] += float(by_class[c])
        running, runnable = int(totals[i]["sched_running_ns"]), int(totals[i]["sched_runnable_ns"])
        rows.append(
            ThreadRow(
                pid=pid,
                tid=tid,
                name=threads.names[i],
                carrier=bool(threads.carrier[i]),
                lifetime_ns=int(totals[i]["lifetime_ns"]),
                states_ns={s: int(totals[i]["state_ns"][k]) for k, s in enumerate(KERNEL_STATES)},
                stages_ns={s: round(v) for s, v in per_stage.items()} if threads.carrier[i] else {},
                samples=int(samples[i].sum()),
                sched_running_ns=running if running >= 0 else None,
                sched_runnable_ns=runnable if runnable >= 0 else None,
            )
        )
    return tuple(sorted(rows, key=lambda r: -r.states_ns["running"]))


def _stack_rows(
    session: Session,
    slices: NDArray[np.void],
    threads: _Threads,
    of_row: NDArray[np.int64],
    waits: Sequence[Verdict],
    runs: Sequence[Verdict],
    on_cpu: RunningSplit,
    state_ns: NDArray[np.int64],
    records: NDArray[np.int64],
    some_lost: bool,
) -> tuple[StackRow, ...]:
    """One row per (stage, state, stack, process, thread name); waits scaled to the exact totals like the ledger."""
    recorded = np.maximum(records, 0).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.nan_to_num(np.where((recorded > state_ns) | (not some_lost), state_ns / recorded, 1.0), posinf=0.0)
    # Samples are rare: a stack's running time is its samples times what one of them stands for.
    gathered: dict[tuple[Any, ...], list[float]] = {}

    def gather(i: int, verdict: Verdict, state: str, ns: float, wait: str) -> None:
        thread = int(of_row[i])
        key = (
            verdict,
            state,
            int(slices[i]["stack"]),
            threads.keys[thread][0],
            threads.names[thread],
            bool(threads.carrier[thread]),
            wait,
        )
        cell = gathered.setdefault(key, [0.0, 0.0])
        cell[0] += ns
        cell[1] += float(slices[i]["count"])

    for i, row in enumerate(slices):
        thread, state = int(of_row[i]), int(row["state"])
        if state == RUNNING:
            mode = "running_kernel" if row["flags"] & SLICE_KERNEL_MODE else "running_user"
            gather(i, runs[i], mode, float(row["count"]) * on_cpu.sample_ns[thread], "")
            continue
        gather(i, waits[i], KERNEL_STATES[state], float(row["weight_ns"]) * scale[thread, state], _wait_words(row))
        if row["runnable_ns"]:
            gather(i, runs[i], "runnable", float(row["runnable_ns"]) * scale[thread, RUNNABLE], "")
    out = []
    for (verdict, state, stack, pid, name, carrier, wait), (ns, count) in gathered.items():
        if ns >= 1:
            out.append(
                StackRow(
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
            )
    return tuple(sorted(out, key=lambda r: -r.ns))


def _wait_words(row: Any) -> str:
    if row["flags"] & SLICE_FAULT:
        return "page fault"
    name = syscall_name(int(row["syscall"]))
    fd_class = FD_CLASSES[int(row["fd_class"])]
    return name if fd_class in ("none", "unknown") else f"{name} {fd_class}"


def _notes(session: Session) -> tuple[str, ...]:
    notes = [f"process {p.pid} ({p.comm}): {p.note}" for p in session.processes.values() if p.note]
    untracked = session.lost.get("threads_untracked", 0)
    if untracked:
        notes.append(f"{untracked} threads found no room in the kernel's table and are not in these figures")
    if session.end is None:
        notes.append("the stream ends without an end mark: Excise was cut off, figures reach up to there")
    return tuple(notes)
