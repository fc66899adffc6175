"""Summaries as text, a block each, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from excise.exporters._labels import frame_name, frame_place
from excise.exporters._units import NOT_MEASURED, duration, percent, plural, ratio, size
from excise.frames import Frame
from excise.names import STATES
from excise.printable import printable
from excise.summary import StackKey, Summary, stage_of

SCHEMA = "excise.summary/1"
_LEAF_FRAMES = 4
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def summary_lines(summary: Summary, top: int = 3) -> Iterator[str]:
    """One block; `top` stacks of each stage."""
    yield from _head_lines(summary)
    yield from _stage_lines(summary)
    yield from _length_lines(summary)
    for key, helper in sorted(summary.helpers.items(), key=lambda item: -sum(item[1].states_ns.values())):
        states = ", ".join(f"{printable(s)} {duration(ns)}" for s, ns in helper.states_ns.items())
        yield f"  helper {printable(key.library)}: {plural(helper.threads, 'thread')}, {states or 'no time'}"
    yield from _stack_lines(summary, top)
    yield from _quality_lines(summary)


def _head_lines(summary: Summary) -> Iterator[str]:
    spans = [span for mine in summary.spans.values() for span in mine]
    when = "no window" if not spans else (
        f"{_time(min(s.start_wall_ns for s in spans))} to {_time(max(s.end_wall_ns for s in spans))}")
    yield f"{when}, {duration(summary.observed_ns)} in {plural(summary.windows, 'window')}"
    for source in sorted(summary.sources.values()):
        rate = f"{source.rate_millihz / 1000:g} Hz" if source.rate_millihz else "not sampled"
        yield (f"  source {printable(source.collector)} {printable(source.version)}, {rate}, "
               f"boot {printable(source.boot_id)}, capabilities {source.capabilities:016x}")
    for number, p in sorted(summary.processes.items(), key=lambda item: (item[1].pid, item[0])):
        python = f"Python {printable(p.python)}" if p.python else "no Python"
        note = f"; {printable(p.note)}" if p.note else ""
        yield f"  process {p.pid} {printable(p.comm)}, {python}{', root' if number in summary.roots else ''}{note}"


def _stage_lines(summary: Summary) -> Iterator[str]:
    stages, errors, total = summary.stages_ns(), summary.stages_se_ns(), summary.total_ns()
    tax, se = summary.ai_tax_ratio(), summary.ai_tax_se()
    yield f"  AI tax {NOT_MEASURED if tax is None else percent(tax)}" + (f" ± {percent(se)}" if se is not None else "")
    for stage, ns in stages.items():
        states: dict[str, int] = {}
        for key, cell in summary.cells.items():
            if stage_of(key.cls) == stage and cell.ns:
                states[key.state] = states.get(key.state, 0) + cell.ns
        words = ", ".join(f"{printable(s)} {duration(states[s])}" for s in sorted(states, key=_state_order))
        error = "" if ns == 0 else f"± {duration(errors[stage])}"
        yield f"  {printable(stage):14} {duration(ns):>8} {error:11} {percent(ratio(ns, total)):>7}  {words}".rstrip()
    for reason, ns in summary.unattributed_ns().items():
        if ns:
            yield f"  unattributed {printable(reason)}: {duration(ns)}"


def _length_lines(summary: Summary) -> Iterator[str]:
    for key, histogram in sorted(summary.lengths.items()):
        what = f"{key.cls} {key.state}" if key.state else key.cls
        quantiles = ", ".join(f"{name} {duration(histogram.quantile_ns(q))}" for name, q in _QUANTILES.items())
        yield (f"  lengths {_pid(summary, key.process)} {printable(what)}: {histogram.count():,} slices, {quantiles} "
               f"(scale {histogram.scale})")


def _stack_lines(summary: Summary, top: int) -> Iterator[str]:
    by_stage: dict[str, list[StackKey]] = {stage: [] for stage in summary.stages_ns()}
    for key in sorted(summary.stacks, key=lambda k: (-summary.stacks[k].ns, k)):
        by_stage[stage_of(key.cls)].append(key)
    for keys in by_stage.values():
        for key in keys[:top]:
            frames = summary.frames_of(key.stack)
            words = [_frame_words(f) for f in frames[:_LEAF_FRAMES]]
            words += [f"{len(frames) - _LEAF_FRAMES} more"] if len(frames) > _LEAF_FRAMES else []
            time = summary.stacks[key]
            yield (f"  stack {_pid(summary, key.process)} {printable(key.cls)} {printable(key.state)} "
                   f"{duration(time.ns)} ({time.count:,}): {' ← '.join(words) or 'no frames'}")


def _quality_lines(summary: Summary) -> Iterator[str]:
    lost = ", ".join(f"{count:,} {printable(name)}" for name, count in summary.lost.items() if count)
    yield f"  lost {lost or 'nothing'}"
    for title, numbers in (("kpis", summary.kpis), ("quality", summary.quality), ("own cost", summary.cost)):
        if numbers:
            yield f"  {title} " + ", ".join(f"{name} {_value(name, value)}" for name, value in numbers.items())
    if summary.steps:
        yield "  governor " + ", ".join(f"{printable(s)} {duration(ns)}" for s, ns in summary.steps.items())


def summary_json(summary: Summary) -> dict[str, Any]:
    """Ids as 16 hex digits; times in ns; null is not known."""
    other_ns = summary.other_ns()
    return {
        "schema": SCHEMA,
        "windows": summary.windows,
        "observed_ns": summary.observed_ns,
        "sources": [
            {"id": _id(number), "boot_id": s.boot_id, "version": s.version, "collector": s.collector,
             "rate_hz": s.rate_millihz / 1000, "capabilities": list(summary.capabilities[s.capabilities]),
             "capabilities_id": _id(s.capabilities), "spans": [span._asdict() for span in summary.spans[number]]}
            for number, s in summary.sources.items()],
        "processes": [
            {"id": _id(number), "root": number in summary.roots, "boot_id": p.boot_id, "pid": p.pid,
             "start_ns": p.start_ns, "comm": p.comm, "python": p.python, "parent": p.parent, "note": p.note}
            for number, p in summary.processes.items()],
        "ai_tax_ratio": summary.ai_tax_ratio(),
        "ai_tax_se": summary.ai_tax_se(),
        "stages_ns": summary.stages_ns(),
        "stages_se_ns": summary.stages_se_ns(),
        "cells": [
            {"process": _id(k.process), "class": k.cls, "state": k.state, "ns": c.ns, "variance_us2": c.variance_us2,
             "other_ns": other_ns[k]} for k, c in summary.cells.items()],
        "helpers": [
            {"process": _id(k.process), "library": k.library, "threads": h.threads, "states_ns": dict(h.states_ns)}
            for k, h in summary.helpers.items()],
        "lengths": [
            {"process": _id(k.process), "class": k.cls, "state": k.state or None, "scale": h.scale,
             "buckets": sorted(h.buckets.items()), **{n: h.quantile_ns(q) for n, q in _QUANTILES.items()}}
            for k, h in summary.lengths.items()],
        "stacks": [
            {"process": _id(k.process), "class": k.cls, "state": k.state, "stack": _id(k.stack), "ns": t.ns,
             "count": t.count, "frames": [{"kind": f.kind, "file": f.file, "name": f.name, "line": f.line}
                                          for f in summary.frames_of(k.stack)]}
            for k, t in summary.stacks.items()],
        "kpis": dict(summary.kpis),
        "quality": dict(summary.quality),
        "lost": dict(summary.lost),
        "cost": dict(summary.cost),
        "steps_ns": dict(summary.steps),
    }


def _time(wall_ns: int) -> str:
    """UTC, to the millisecond; a number where a calendar has no such year."""
    try:
        return f"{datetime.fromtimestamp(wall_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{wall_ns // 10**6 % 1000:03}"
    except (OverflowError, ValueError, OSError):
        return f"{wall_ns} ns"


def _id(number: int) -> str:
    return f"{number:016x}"


def _pid(summary: Summary, process: int) -> int:
    return summary.processes[process].pid


def _state_order(state: str) -> tuple[int, str]:
    return (STATES.index(state) if state in STATES else len(STATES)), state


def _frame_words(frame: Frame) -> str:
    return f"{frame_place(frame)} {frame_name(frame)}".strip()


def _value(name: str, value: int | None) -> str:
    if value is None:
        return NOT_MEASURED
    if name.endswith("_ns"):
        return duration(value)
    return size(value) if name.endswith("_bytes") else f"{value:,}"
