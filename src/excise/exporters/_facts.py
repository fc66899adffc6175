"""What a report says in words, for every exporter that has room for words. Plain text, no markup."""

from __future__ import annotations

from typing import Any

from excise.exporters._history import holes_words, range_words, watched_words, workload_name
from excise.exporters._units import NOT_MEASURED, cores, duration, percent, plural, ratio, size
from excise.names import LEAST_BUDGET_CORES, STAGES
from excise.printable import printable
from excise.report import Report

Fact = tuple[str, str]
"""A label and what is to be said under it."""


def busy_ns(report: Report) -> int:
    """Carrier time that was neither idle nor handed off: what the AI tax divides by."""
    return report.total_ns() - report.stage_ns("idle") - report.stage_ns("handoff")


def state_ns(report: Report, state: str) -> int | None:
    """Carrier time of one state over all stages; None where no stage measured it."""
    known = [v for stage in STAGES if (v := report.stages[stage].get(state)) is not None]
    return sum(known) if known else None


def tax_sentence(report: Report) -> str:
    """The AI tax with what it is a ratio of."""
    if report.ai_tax_ratio is None:
        return f"AI tax {NOT_MEASURED}: nothing left to divide by"
    error = f"± {percent(report.ai_tax_se)}" if report.ai_tax_se is not None else "(standard error not known)"
    return (
        f"AI tax {percent(report.ai_tax_ratio)} {error}: of the {duration(busy_ns(report))} of carrier time "
        f"that was not idle or handed off, {duration(report.stage_ns('compute'))} were the model"
    )


def target_name(report: Report) -> str:
    """`uvicorn (pid 4242)`; of a history, the workload's name."""
    if report.history is not None and report.history.workload is not None:
        return workload_name(report.history.workload)
    main = report.processes[0] if report.processes else None
    comm = str(report.target.get("comm") or (main.comm if main else "") or "unknown process")
    pid = report.target.get("pid") or (main.pid if main else None)
    return f"{printable(comm)} (pid {pid})" if pid else printable(comm)


def header_facts(report: Report) -> list[Fact]:
    """What was watched, for how long, and what the host gave it."""
    host = report.host
    pythons = sorted({p.python for p in report.processes if p.python})
    watched = [
        target_name(report),
        f"Python {', '.join(map(printable, pythons))}" if pythons else "no Python found",
        plural(len(report.processes), "process", "processes"),
        _threads_words(report),
    ]
    return [
        ("watched", ", ".join(watched)),
        *_window_facts(report),
        ("cpu", _cpu_words(report)),
        ("memory", f"RSS {'at most ' if report.history else ''}{_or_unmeasured(size, host.get('rss_bytes'))}"),
        ("disk", _both(host, "read", "disk_read_bytes", "written", "disk_write_bytes")),
        ("network", _both(host, "in", "net_in_bytes", "out", "net_out_bytes")),
    ]


def quality_facts(report: Report) -> list[Fact]:
    """How far the numbers can be trusted, and what getting them cost."""
    quality = report.quality
    samples = quality.get("samples")
    facts: list[Fact] = [("samples", f"{samples:,}" if samples is not None else NOT_MEASURED)]
    lost = {name: count for name, count in (quality.get("lost") or {}).items() if count}
    facts.append(("lost", ", ".join(f"{count:,} {name}" for name, count in lost.items()) or "nothing"))
    facts.append(("unattributed", _unattributed_words(report)))
    facts.append(("schedstat", _closure_words(report)))
    facts.append(("own cost", _cost_words(report)))
    if governed := _governor_words(report):
        facts.append(("seen", governed))
    return facts


def _threads_words(report: Report) -> str:
    """A history has no threads: it has counted those of each window."""
    if report.history is None:
        threads, carriers = len(report.threads), sum(t.carrier for t in report.threads)
        return f"{plural(threads, 'thread')} ({plural(carriers, 'carrier')})"
    most, ran = report.host.get("threads"), report.host.get("carriers")
    if most is None or ran is None:
        return f"threads {NOT_MEASURED}"
    return f"at most {plural(most, 'thread')} ({plural(ran, 'carrier')})"


def _window_facts(report: Report) -> list[Fact]:
    rate = f"sampled at {report.rate_hz:g} Hz" if report.rate_hz else "not sampled"
    history = report.history
    if history is not None:
        facts = [("window", f"{range_words(history.start_wall_ns, history.end_wall_ns)}: {watched_words(history)}, "
                            f"{rate}")]
        return [*facts, ("unwatched", holes_words(history))] if history.holes else facts
    window = [f"{duration(report.duration_ns)}, {rate}"]
    if report.end_reason and report.end_reason != "duration":
        window.append(f"ended: {printable(report.end_reason)}")
    return [("window", "; ".join(window))]


def _or_unmeasured(unit: Any, value: float | None) -> str:
    return NOT_MEASURED if value is None else str(unit(value))


def _both(host: dict[str, Any], name_1: str, key_1: str, name_2: str, key_2: str) -> str:
    first, second = host.get(key_1), host.get(key_2)
    if first is None and second is None:
        return NOT_MEASURED
    return f"{_or_unmeasured(size, first)} {name_1}, {_or_unmeasured(size, second)} {name_2}"


def _cpu_words(report: Report) -> str:
    host = report.host
    used, cpus, quota = host.get("cpus_used"), host.get("cpus"), host.get("quota_cpus")
    allowed = next((n for n in (quota, cpus, host.get("allowed_cpus")) if n is not None), None)
    words = f"{_or_unmeasured(cores, used)} of {_or_unmeasured(cores, allowed)} cores used"
    if quota is not None and cpus is not None:
        words += f" (quota; the host has {cores(cpus)})"
    return (
        f"{words}; throttled {_or_unmeasured(duration, host.get('throttled_ns'))}; "
        f"run-queue delay {_or_unmeasured(duration, state_ns(report, 'runnable'))}"
    )


def _unattributed_words(report: Report) -> str:
    total = report.total_ns()
    parts = report.quality.get("unattributed") or {}
    share = report.quality.get("unattributed_ratio")
    if share is None:
        share = ratio(report.stage_ns("unattributed"), total)
    if share is None:
        return NOT_MEASURED
    reasons = [f"{name} {percent(ratio(ns, total))}" for name, ns in parts.items() if ns]
    return percent(share) + (f": {', '.join(reasons)}" if reasons else "")


def _closure_words(report: Report) -> str:
    """Our totals over the kernel's own: a clock that is not ours."""
    closure = report.quality.get("schedstat") or {}
    words = [
        f"{name} {_or_unmeasured(percent, closure.get(f'{name}_ratio'))}" for name in ("running", "runnable")
    ]
    return f"{', '.join(words)} of the kernel's own count"


def _cost_words(report: Report) -> str:
    overhead = report.overhead
    agent, bpf, tick, startup = (
        overhead.get(k) for k in ("agent_cpu_ratio", "bpf_cpu_ratio", "tick_cpu_ratio", "startup_cpu_s")
    )
    words = (
        f"agent {_or_unmeasured(percent, agent)}, BPF {_or_unmeasured(percent, bpf)}, "
        f"timer ticks {_or_unmeasured(percent, tick)} of the target's CPU"
    )
    if report.history is not None:  # the agent has started once, and not for this range
        return words
    return f"{words}; start-up {NOT_MEASURED if startup is None else duration(startup * 1e9)} of CPU"


def _governor_words(report: Report) -> str:
    """What was left out to keep within the budget, for how long, and whether that was enough."""
    governor = report.overhead.get("governor")
    if not governor:
        return ""
    if "budget_ratio" not in governor and not governor.get("steps_ns"):
        return ""
    budget = governor.get("budget_ratio")
    steps = sorted((governor.get("steps_ns") or {}).items(), key=lambda step: -step[1])
    words = ", ".join(
        printable(name) if len(steps) == 1 else f"{printable(name)} for {duration(ns)}" for name, ns in steps
    )
    if "budget_ratio" not in governor:
        return words
    if budget is None:
        return f"{words or 'everything'} (no budget set)"
    parts = [report.overhead.get(f"{part}_cpu_ratio") for part in ("agent", "bpf", "tick")]
    cost, target_ns = sum(part or 0 for part in parts), report.overhead.get("target_cpu_ns") or 0
    kept = cost <= budget or cost * target_ns <= LEAST_BUDGET_CORES * report.duration_ns
    limit = f"budget {percent(budget)} of the target's CPU" + ("" if kept else f", not kept: {100 * cost:.2f} %")
    return f"{words or 'everything'} ({limit})"
