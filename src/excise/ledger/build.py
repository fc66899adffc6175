"""From a session's sums to the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_KERNEL_MODE
from excise.frames import Frame
from excise.ledger.callsite import judge_by_call
from excise.ledger.classes import CLASSES, class_id
from excise.ledger.estimate import RunningSplit, settle, split_running, split_stolen, split_waits, waits_scale
from excise.ledger.stacks import stack_rows
from excise.ledger.threads import Threads, libraries, strip_digits, who
from excise.names import (
    FD_CLASSES,
    KERNEL_STATE_ID,
    KERNEL_STATES,
    STAGES,
    STATES,
    SUBSTAGES,
    UNATTRIBUTED,
)
from excise.report import HelperRow, Report, ThreadRow
from excise.session import Session
from excise.stages import ThreadContext, Verdict, Wait
from excise.syscalls import syscall_name

RUNNING, RUNNABLE, GIL, SLEEP, STOLEN = (KERNEL_STATE_ID[n] for n in ("running", "runnable", "gil", "sleep", "stolen"))
MUCH_UNATTRIBUTED = 0.1  # of busy time: from here on the tax alone would mislead
_AS_IF_RUNNING = (RUNNING, RUNNABLE, GIL)


def build_report(session: Session) -> Report:
    """The report of everything fed so far. Raises ValueError when the stream has no header."""
    if session.header is None:
        raise ValueError("the stream has no header")
    slices = session.slices()
    totals = session.totals_array()
    threads = who(session, slices, totals)
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

    state_ns = settle(totals["state_ns"])
    strata = [(pid, strip_digits(name)) for (pid, _), name in zip(threads.keys, threads.names, strict=True)]
    some_lost = bool(session.lost.get("ring_full"))
    off_cpu = split_waits(state_ns, records, some_lost)
    on_cpu = split_running(state_ns[:, RUNNING], state_ns[:, STOLEN], samples, strata, threads.carrier)
    off_cpu[:, STOLEN] = split_stolen(state_ns[:, STOLEN], on_cpu.ns.sum(axis=2))

    stages, substages = _ledger(off_cpu, on_cpu, threads.carrier, measured=session.header.rate_hz > 0)
    sampled = bool(samples[threads.carrier].any()) or not state_ns[threads.carrier, RUNNING].any()
    se = _stage_errors(on_cpu, sampled)
    tax, tax_se = _ai_tax(stages, on_cpu, sampled)
    stacks = stack_rows(
        session, slices, threads, of_row, waits, runs, off_cpu, on_cpu, waits_scale(state_ns, records, some_lost)
    )
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
        threads=_thread_rows(threads, totals, state_ns, off_cpu, on_cpu, samples),
        stacks=stacks,
        notes=(*_notes(session), *_doubt(stages)),
    )


def _verdicts(
    session: Session, slices: NDArray[np.void], threads: Threads, of_row: NDArray[np.int64]
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
    same_call = judge_by_call(slices, session.stacks, session.frames, runs)
    for i, row in enumerate(slices):
        judged = same_call.get(int(row["stack"]))
        if judged is not None:
            if waits[i].stage == "unattributed" and int(row["state"]) != SLEEP:
                waits[i] = judged
            if runs[i].stage == "unattributed":
                runs[i] = judged
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
        for row in (*stages.values(), *substages.values()):
            row["running_kernel"] = None
    return stages, substages


def _classes_of(*stages: str) -> NDArray[np.float64]:
    """(C,): 1 for the classes of these stages, else 0."""
    return np.array([float(stage in stages) for stage, _ in CLASSES])


def _stage_errors(on_cpu: RunningSplit, sampled: bool) -> dict[str, int | None]:
    """Unknown when carriers ran and none of them was ever sampled."""
    return {s: round(math.sqrt(on_cpu.variance(_classes_of(s)))) if sampled else None for s in STAGES}


def _ai_tax(
    stages: dict[str, dict[str, int | None]], on_cpu: RunningSplit, sampled: bool
) -> tuple[float | None, float | None]:
    """1 - compute / (all - idle - handoff), and its standard error (delta method on the sampled part)."""
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    busy = sum(sums.values()) - sums["idle"] - sums["handoff"]
    if busy <= 0:
        return None, None
    ratio = sums["compute"] / busy
    if not sampled:
        return 1 - ratio, None
    slope = _classes_of("compute") + ratio * _classes_of("idle", "handoff")
    return 1 - ratio, math.sqrt(on_cpu.variance(slope)) / busy


def _helpers(
    session: Session,
    slices: NDArray[np.void],
    threads: Threads,
    of_row: NDArray[np.int64],
    state_ns: NDArray[np.int64],
) -> tuple[HelperRow, ...]:
    library = libraries(session, slices)
    groups: dict[str, list[int]] = {}
    for i, key in enumerate(threads.keys):
        if not threads.carrier[i]:
            name = library.get(key) or _pool(session, key)
            name = name or f"unknown ({strip_digits(threads.names[i]) or 'unnamed'})"
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
    threads: Threads,
    totals: NDArray[np.void],
    state_ns: NDArray[np.int64],
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
                states_ns={s: int(state_ns[i, k]) for k, s in enumerate(KERNEL_STATES)},
                stages_ns={s: round(v) for s, v in per_stage.items()} if threads.carrier[i] else {},
                samples=int(samples[i].sum()),
                sched_running_ns=running if running >= 0 else None,
                sched_runnable_ns=runnable if runnable >= 0 else None,
            )
        )
    return tuple(sorted(rows, key=lambda r: -r.states_ns["running"]))


def _doubt(stages: dict[str, dict[str, int | None]]) -> list[str]:
    """How far the tax may be off when much time has no stage: it counts as tax, and may be the model."""
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    busy = sum(sums.values()) - sums["idle"] - sums["handoff"]
    if busy <= 0 or sums["unattributed"] < MUCH_UNATTRIBUTED * busy:
        return []
    low, high = 1 - (sums["compute"] + sums["unattributed"]) / busy, 1 - sums["compute"] / busy
    return [
        f"{sums['unattributed'] / busy:.0%} of busy time has no stage and counts as tax: "
        f"the tax lies between {max(low, 0):.0%} and {high:.0%}"
    ]


def _notes(session: Session) -> tuple[str, ...]:
    notes = [f"process {p.pid} ({p.comm}): {p.note}" for p in session.processes.values() if p.note]
    untracked = session.lost.get("threads_untracked", 0)
    if untracked:
        notes.append(f"{untracked} threads found no room in the kernel's table and are not in these figures")
    if session.end is None:
        notes.append("the stream ends without an end mark: Excise was cut off; figures reach up to its last totals")
    return tuple(notes)
