"""From a summary, of one window or of many, to the report that every exporter reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from excise.frames import Frame, FrameKind, Process
from excise.history.coverage import coverage
from excise.history.notes import notes_of
from excise.history.words import Words, words_of
from excise.ledger.notes import doubt
from excise.names import KERNEL_STATES, STAGES, STATES, SUBSTAGES, UNATTRIBUTED
from excise.report import HelperRow, History, Report, StackRow
from excise.summary import CellKey, Source, Span, Summary
from excise.workload import Workload

_KINDS: Final = get_args(FrameKind)
_WITHOUT_STACKS: Final = ("no_stack", "no_sample", "lost")  # reasons that say themselves why there is none
_KPIS: Final = ("cpu_ns", "throttled_ns", "rss_bytes", "disk_read_bytes", "disk_write_bytes", "net_in_bytes",
                "net_out_bytes", "allowed_cpus", "threads", "carriers", "listen_ports")


def report_of(summary: Summary, workload: Workload | None = None, history: History | None = None) -> Report:
    """The report of what is in it. `history`: which range was asked for, if it was one (`coverage`).

    It has no threads. Rows of stacks add up to the ledger exactly: what a cell has beyond its stacks is a row without
    frames. Names of another version's stages count as unattributed, those of its states as `other`: a note says so.
    """
    words = {key: words_of(key) for key in summary.cells}
    sources = _by_time(summary)
    stages, substages = _ledger(summary, words, not sources or any(s.rate_millihz for s, _ in sources))
    errors = summary.stages_se_ns()
    processes = _processes(summary)
    spans = [span for mine in summary.spans.values() for span in mine]
    return Report(
        boot_id=max(((mine[-1].end_wall_ns, summary.sources[s].boot_id) for s, mine in summary.spans.items() if mine),
                    default=(0, ""))[1],
        target=_target(summary, sources),
        processes=processes,
        host=_host(summary),
        start_wall_ns=min((s.start_wall_ns for s in spans), default=0),
        start_mono_ns=min(((s.start_wall_ns, s.start_mono_ns) for s in spans), default=(0, 0))[1],
        duration_ns=summary.observed_ns,
        end_reason="",
        rate_hz=sources[0][0].rate_millihz / 1000 if sources else 0.0,
        stages=stages,
        stages_se_ns={s: None if (se := errors[s]) is None else round(se) for s in STAGES},
        substages=substages,
        helpers=_helpers(summary),
        ai_tax_ratio=summary.ai_tax_ratio(),
        ai_tax_se=summary.ai_tax_se(),
        quality=_quality(summary, words),
        overhead=_overhead(summary),
        threads=(),
        stacks=_stacks(summary, words),
        notes=(*notes_of(summary, words.values(), sources), *doubt(stages)),
        history=history or coverage(summary, workload),
    )


def _by_time(summary: Summary) -> list[tuple[Source, int]]:
    """Sources and how long each watched, ns: the longest first."""

    def length(spans: tuple[Span, ...]) -> int:
        return sum(span.end_wall_ns - span.start_wall_ns for span in spans)

    watched = [(source, length(summary.spans[number])) for number, source in summary.sources.items()]
    return sorted(watched, key=lambda item: (-item[1], item[0]))


def _ledger(
    summary: Summary, words: Mapping[CellKey, Words], sampled: bool
) -> tuple[dict[str, dict[str, int | None]], dict[str, dict[str, int | None]]]:
    stages: dict[str, dict[str, int | None]] = {s: dict.fromkeys(STATES, 0) for s in STAGES}
    substages: dict[str, dict[str, int | None]] = {s: dict.fromkeys(STATES, 0) for s in SUBSTAGES}
    for key, cell in summary.cells.items():
        word = words[key]
        for row in [stages[word.stage]] + ([substages[word.substage]] if word.substage else []):
            row[word.state] = (row[word.state] or 0) + cell.ns
    if not sampled:  # user and kernel time cannot be told apart
        for row in (*stages.values(), *substages.values()):
            row["running_kernel"] = row["running_kernel"] or None
    return stages, substages


def _processes(summary: Summary) -> tuple[Process, ...]:
    """Roots first, then as they began."""
    ordered = sorted(summary.processes.items(), key=lambda item: (item[0] not in summary.roots, item[1].start_ns,
                                                                  item[1].pid, item[0]))
    return tuple(Process(p.pid, p.start_ns, p.comm, p.python, p.parent, note=p.note) for _, p in ordered)


def _target(summary: Summary, sources: list[tuple[Source, int]]) -> dict[str, Any]:
    """`pid` and `comm` are those of the root, where there is one and no more."""
    out: dict[str, Any] = {"pid": None, "comm": None}
    if len(summary.roots) == 1:
        (root,) = summary.roots
        out = {"pid": summary.processes[root].pid, "comm": summary.processes[root].comm}
    return out | {"collector": ", ".join(sorted({s.collector for s, _ in sources}))}


def _host(summary: Summary) -> dict[str, Any]:
    out: dict[str, Any] = {name: summary.kpis[name] for name in _KPIS if name in summary.kpis}
    quota, cpu_ns = summary.kpis.get("quota_millicpus"), summary.kpis.get("cpu_ns")
    out["quota_cpus"] = None if quota is None else quota / 1000
    if cpu_ns is not None and summary.observed_ns:
        out["cpus_used"] = cpu_ns / summary.observed_ns
    return out


def _helpers(summary: Summary) -> tuple[HelperRow, ...]:
    threads: dict[str, int] = {}
    states: dict[str, dict[str, int]] = {}
    for key, helper in summary.helpers.items():
        threads[key.library] = threads.get(key.library, 0) + helper.threads
        mine = states.setdefault(key.library, dict.fromkeys(KERNEL_STATES, 0))
        for state, ns in helper.states_ns.items():
            name = state if state in KERNEL_STATES else "other"
            mine[name] += ns
    rows = [HelperRow(name, count, states[name]["running"], states[name]) for name, count in threads.items()]
    return tuple(sorted(rows, key=lambda r: (-r.cpu_ns, r.library)))


def _quality(summary: Summary, words: Mapping[CellKey, Words]) -> dict[str, Any]:
    quality, total = summary.quality, summary.total_ns()
    reasons = dict.fromkeys(UNATTRIBUTED, 0)
    for key, cell in summary.cells.items():
        if (reason := words[key].reason) is not None:
            reasons[reason] = reasons.get(reason, 0) + cell.ns
    ratios: dict[str, float | None] = {}
    for name in ("running", "runnable"):
        ours, reference = quality.get(f"{name}_ns"), quality.get(f"sched_{name}_ns")
        ratios[f"{name}_ratio"] = ours / reference if ours is not None and reference else None
    return {
        "samples": quality.get("samples"),
        "carrier_samples": quality.get("carrier_samples"),
        "lost": {"ring_full": 0, **summary.lost},
        "unattributed": reasons,
        "unattributed_ratio": sum(reasons.values()) / total if total else None,
        "schedstat": ratios,
    }


def _overhead(summary: Summary) -> dict[str, Any]:
    cost = summary.cost
    target_ns = cost.get("target_cpu_ns")
    out: dict[str, Any] = {}
    for part in ("agent", "bpf", "tick"):
        ns = cost.get(f"{part}_ns")
        out[f"{part}_cpu_ratio"] = round(ns / target_ns, 6) if ns is not None and target_ns else None
    out["target_cpu_ns"] = target_ns
    if summary.steps:
        out["governor"] = {"steps_ns": dict(summary.steps)}
    return out


def _stacks(summary: Summary, words: Mapping[CellKey, Words]) -> tuple[StackRow, ...]:
    """A thread has no name here: its process's stands for it, its library's for that of a helper."""
    rows = []
    known: dict[int, tuple[Frame, ...]] = {}
    for key, time in summary.stacks.items():
        if key.stack not in known:
            known[key.stack] = tuple(map(_known_kind, summary.frames_of(key.stack)))
        rows.append(_row(summary, key.process, words[CellKey(*key[:3])], time.ns, known[key.stack], time.count))
    for cell, ns in summary.other_ns().items():
        if ns > 0:
            rows.append(_row(summary, cell.process, words[cell], ns))
    for helper, found in summary.helpers.items():
        for state, ns in found.states_ns.items():
            name = "running_user" if state == "running" else state if state in STATES else "other"
            rows.append(StackRow("unattributed", "no_stack", None, name, (), ns, 0,
                                 summary.processes[helper.process].pid, helper.library, False,
                                 missing="stacks_not_kept"))
    return tuple(sorted(rows, key=lambda row: -row.ns))


def _row(summary: Summary, process: int, word: Words, ns: int, frames: tuple[Frame, ...] = (), count: int = 0
         ) -> StackRow:
    program = summary.processes[process]
    walked = word.reason not in _WITHOUT_STACKS and word.state != "stolen"
    return StackRow(word.stage, word.reason, word.substage, word.state, frames, ns, count, program.pid, program.comm,
                    True, missing="" if frames or not walked else "lighter_stacks")


def _known_kind(frame: Frame) -> Frame:
    return frame if frame.kind in _KINDS else Frame("native", frame.file, frame.name, frame.line)
