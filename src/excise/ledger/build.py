"""From a session to its report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from excise.ledger.account import RUNNING, Accounted, account, classes_of
from excise.ledger.classes import CLASSES
from excise.ledger.notes import doubt, phased, untracked
from excise.ledger.stacks import wait_words
from excise.ledger.tally import steps_ns
from excise.ledger.threads import Memory
from excise.names import KERNEL_STATE_ID, KERNEL_STATES, STAGES, STATES, SUBSTAGES, UNATTRIBUTED
from excise.report import HelperRow, Report, StackRow, ThreadRow
from excise.session import Session

RUNNABLE = KERNEL_STATE_ID["runnable"]


def build_report(session: Session) -> Report:
    """The report of everything fed so far. Raises ValueError when the stream has no header."""
    if session.header is None:
        raise ValueError("the stream has no header")
    found = account(session.tally, session.known, session.attributor, Memory())
    stages, substages = _ledger(found, measured=session.header.rate_hz > 0)
    tax, tax_se = _ai_tax(stages, found)
    return Report(
        boot_id=session.header.boot_id,
        target=dict(session.header.target),
        processes=tuple(session.processes.values()),
        host=_host(session),
        start_wall_ns=session.header.start_wall_ns,
        start_mono_ns=session.header.start_mono_ns,
        duration_ns=max(session.stop_ns - session.start_ns, 0),
        end_reason=session.end.reason if session.end else "cut off",
        rate_hz=session.header.rate_hz,
        stages=stages,
        stages_se_ns=_stage_errors(found),
        substages=substages,
        helpers=_helpers(session, found),
        ai_tax_ratio=tax,
        ai_tax_se=tax_se,
        quality=_quality(stages, found),
        overhead=dict(session.end.overhead) if session.end else {},
        threads=_thread_rows(found),
        stacks=_stack_rows(session, found),
        notes=(*_notes(session), *doubt(stages)),
    )


def _host(session: Session) -> dict[str, Any]:
    """Host facts and the counters of all windows. CPUs used are those of the whole span, not of its last window."""
    seen = {k: v for k, v in session.host.items() if k != "listen_ports"}
    span_ns = session.stop_ns - session.start_ns
    if seen.get("cpu_ns") is not None and span_ns > 0:
        seen["cpus_used"] = seen["cpu_ns"] / span_ns
    return {**session.header.host, **seen} if session.header else seen


def _ledger(
    found: Accounted, measured: bool
) -> tuple[dict[str, dict[str, int | None]], dict[str, dict[str, int | None]]]:
    carrier = found.threads.carrier
    waits = found.off_cpu[carrier].sum(axis=0)  # (S, C)
    runs = found.on_cpu.ns[carrier].sum(axis=0)  # (C, M)
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


def _ai_tax(stages: dict[str, dict[str, int | None]], found: Accounted) -> tuple[float | None, float | None]:
    """1 - compute / (all - idle - handoff) of the numbers as they are printed, and its standard error."""
    sums = {stage: sum(v or 0 for v in states.values()) for stage, states in stages.items()}
    busy = sum(sums.values()) - sums["idle"] - sums["handoff"]
    return (1 - sums["compute"] / busy, found.ai_tax()[1]) if busy > 0 else (None, None)


def _stage_errors(found: Accounted) -> dict[str, int | None]:
    """Unknown when carriers ran and none of them was ever sampled."""
    return {s: round(math.sqrt(found.variance(classes_of(s)))) if found.sampled else None for s in STAGES}


def _helpers(session: Session, found: Accounted) -> tuple[HelperRow, ...]:
    groups: dict[str, list[int]] = {}
    threads = found.threads
    for i in np.flatnonzero(~threads.carrier).tolist():
        groups.setdefault(found.helper_library(i, session.threads), []).append(i)
    rows = [
        HelperRow(
            library=name,
            threads=len(members),
            cpu_ns=int(found.state_ns[members, RUNNING].sum()),
            states_ns={s: int(found.state_ns[members, k].sum()) for k, s in enumerate(KERNEL_STATES)},
        )
        for name, members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda r: -r.cpu_ns))


def _quality(stages: dict[str, dict[str, int | None]], found: Accounted) -> dict[str, Any]:
    reasons = dict.fromkeys(UNATTRIBUTED, 0.0)
    for c, (stage, reason) in enumerate(CLASSES):
        if stage == "unattributed" and reason:
            reasons[reason] += float(found.carrier_ns[c])
    everything = sum(v or 0 for states in stages.values() for v in states.values())
    totals = found.totals
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
        "samples": int(found.samples.sum()),
        "carrier_samples": int(found.samples[found.threads.carrier].sum()),
        "lost": {"ring_full": 0, **found.lost},
        "unattributed": {r: round(v) for r, v in reasons.items()},
        "unattributed_ratio": sum(reasons.values()) / everything if everything else None,
        "schedstat": ratios,
    }


def _thread_rows(found: Accounted) -> tuple[ThreadRow, ...]:
    rows = []
    threads, totals = found.threads, found.totals
    for i, (pid, tid) in enumerate(threads.keys):
        by_class = found.off_cpu[i].sum(axis=0) + found.on_cpu.ns[i].sum(axis=1)
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
                states_ns={s: int(found.state_ns[i, k]) for k, s in enumerate(KERNEL_STATES)},
                stages_ns={s: round(v) for s, v in per_stage.items()} if threads.carrier[i] else {},
                samples=int(found.samples[i].sum()),
                sched_running_ns=running if running >= 0 else None,
                sched_runnable_ns=runnable if runnable >= 0 else None,
            )
        )
    return tuple(sorted(rows, key=lambda r: -r.states_ns["running"]))


def _stack_rows(session: Session, found: Accounted) -> tuple[StackRow, ...]:
    rows = []
    for class_, state, whose, stack, wait, ns, count in found.cells.tolist():
        stage, part = CLASSES[class_]
        pid, name, carrier = found.whose[whose]
        rows.append(
            StackRow(
                stage=stage,
                reason=part if stage == "unattributed" else None,
                substage=part if stage == "compute" else None,
                state=STATES[state],
                frames=session.known.stack(stack),
                ns=round(ns),
                count=count,
                pid=pid,
                thread=name,
                carrier=carrier,
                wait=wait_words(wait),
            )
        )
    return tuple(rows)


def _notes(session: Session) -> tuple[str, ...]:
    notes = [f"process {p.pid} ({p.comm}): {p.note}" for p in session.processes.values() if p.note]
    for pid, more in session.ended.stands_for.items():
        if more:
            comm = session.processes[pid].comm
            notes.append(f"process {pid} ({comm}) stands for {more:,} more like it that have ended")
    notes += phased(steps_ns(session.costs))
    notes += untracked(session.lost)
    if session.end is None:
        notes.append("the stream ends without an end mark: Excise was cut off; figures reach up to its last totals")
    return tuple(notes)
