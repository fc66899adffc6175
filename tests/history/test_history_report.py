"""A report out of summaries says what the report of the same stream says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streams import (
    END,
    HEADER,
    PID,
    SECOND,
    STACKS,
    FrameRules,
    definitions,
    sample,
    slices,
    totals,
    waited,
)
from streams import (
    report_of as session_report,
)
from typical_summary import window, windows

from excise.batch import Batch, Cost, Definitions, HostSample, Item, Totals
from excise.exporters.flame import encode_flame
from excise.exporters.folded import encode_folded
from excise.exporters.speedscope import encode_speedscope
from excise.frames import Frame, Process, Thread
from excise.history import Fold, report_of
from excise.names import STAGES, STATES
from excise.report import Report, to_json
from excise.stages import Rules
from excise.summarize import Summarizer
from excise.summary import Cell, CellKey, Summary, compact, decode_segments, encode_segment, merge

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MAIN, WORKER, POOL = Thread(PID, PID, "main", True), Thread(101, PID, "worker", True), Thread(102, PID, "pool-3", False)
WAITS = ("gil", "lock", "io", "net", "sleep", "other")


def summaries_of(items: Iterable[Item], stacks: int = 1000) -> list[Summary]:
    out: list[Summary] = []
    summarizer = Summarizer(cast(Rules, FrameRules()), out.append, 10 * SECOND, stacks)
    for item in items:
        summarizer.feed(item)
    summarizer.close()
    return decode_segments(encode_segment(out))


def folded(summaries: Iterable[Summary]) -> Summary:
    fold = Fold()
    for summary in summaries:
        fold.add(summary)
    return fold.result()


def history_report(items: Iterable[Item], stacks: int = 1000) -> Report:
    return report_of(folded(summaries_of(items, stacks)))


def states_ns(report: Report) -> Counter[str]:
    out: Counter[str] = Counter()
    for states in report.stages.values():
        for state, ns in states.items():
            out["running" if state.startswith("running") else state] += ns or 0
    return out


def off_cpu(report: Report) -> dict[tuple[str, str], int]:
    return {(stage, state): report.stages[stage][state] or 0 for stage in STAGES for state in WAITS}


def rows_ns(report: Report) -> Counter[tuple[str, str]]:
    out: Counter[tuple[str, str]] = Counter()
    for row in report.stacks:
        if row.carrier:
            out[row.stage, row.state] += row.ns
    return out


@st.composite
def parts(draw: st.DrawFn, start_ns: int, end_ns: int) -> list[Item]:
    """One window: two carriers and a helper, which never runs Python, that run, wait and queue."""
    rows: list[dict[str, Any]] = []
    sums = []
    for thread in (MAIN, WORKER, POOL):
        spent: Counter[str] = Counter()
        for stack, state, ns, queued in draw(st.lists(st.tuples(
                st.sampled_from(STACKS), st.sampled_from(WAITS), st.integers(1, 2 * SECOND), st.integers(0, 10**7)),
                max_size=4)):
            rows.append(waited(0 if thread is POOL else stack, state, ns, queued, tid=thread.tid))
            spent[state] += ns
            spent["runnable"] += queued
        for stack, count in draw(st.lists(st.tuples(st.sampled_from(STACKS), st.integers(1, 60)), max_size=4)):
            rows.append(sample(0 if thread is POOL else stack, count, tid=thread.tid, flags=draw(st.integers(0, 1))))
        spent["running"] = draw(st.integers(0, 3 * SECOND))
        sums.append({"tid": thread.tid, **spent, "sched_running_ns": spent["running"] + 7,
                     "sched_runnable_ns": spent["runnable"]})
    host = {"cpu_ns": draw(st.integers(0, 9 * SECOND)), "rss_bytes": draw(st.none() | st.integers(0, 2**40))}
    return [
        Batch(start_ns, end_ns, slices(*rows), {"ring_full": 0, "frame_gone": draw(st.integers(0, 3))}),
        HostSample(start_ns, end_ns, host),
        Cost(start_ns, end_ns, {"agent_ns": 5, "bpf_ns": 6, "tick_ns": 7, "target_cpu_ns": 1000,
                                "steps_ns": {"everything": end_ns - start_ns}}),
        Totals(start_ns, end_ns, totals(*sums)),
    ]


@st.composite
def streams(draw: st.DrawFn, most: int) -> list[Item]:
    items: list[Item] = [HEADER, definitions([MAIN, WORKER, POOL], note=draw(st.sampled_from(["", "no GIL"])))]
    edges = [SECOND + 10 * SECOND * i for i in range(draw(st.integers(1, most)) + 1)]
    for start, end in pairwise(edges):
        items += draw(parts(start, end))
    return [*items, END]


@SLOW
@given(streams(most=1))
def test_one_window_is_the_sessions_report(items: list[Item]) -> None:
    ours, theirs = history_report(items), session_report(items)
    for stage in STAGES:
        for state in STATES:
            assert ours.stages[stage][state] == pytest.approx(theirs.stages[stage][state], abs=4), (stage, state)
        if theirs.stages_se_ns[stage] is not None and theirs.stage_ns(stage):
            assert ours.stages_se_ns[stage] == pytest.approx(theirs.stages_se_ns[stage], rel=0.01, abs=1000)
    assert ours.substages.keys() == theirs.substages.keys()
    assert ours.ai_tax_ratio == pytest.approx(theirs.ai_tax_ratio, abs=1e-6)
    busy = theirs.total_ns() - theirs.stage_ns("idle") - theirs.stage_ns("handoff")
    if theirs.ai_tax_se is not None:
        assert ours.ai_tax_se == pytest.approx(theirs.ai_tax_se, rel=0.02, abs=3000 / busy)  # in whole µs²
    assert ours.helpers == theirs.helpers
    assert ours.quality | {"unattributed": 0, "unattributed_ratio": 0} == theirs.quality | {
        "unattributed": 0, "unattributed_ratio": 0}
    assert ours.quality["unattributed"] == pytest.approx(theirs.quality["unattributed"], abs=16)
    assert (ours.duration_ns, ours.rate_hz, ours.boot_id) == (theirs.duration_ns, theirs.rate_hz, theirs.boot_id)
    assert (ours.start_wall_ns, ours.start_mono_ns) == (theirs.start_wall_ns, theirs.start_mono_ns)
    assert ours.host["cpus_used"] == theirs.host["cpus_used"] and ours.host["rss_bytes"] == theirs.host["rss_bytes"]
    assert [(p.pid, p.comm, p.python, p.note) for p in ours.processes] == [
        (p.pid, p.comm, p.python, p.note) for p in theirs.processes]
    assert ours.notes == theirs.notes


@SLOW
@given(streams(most=1))
def test_stacks_are_the_sessions_stacks(items: list[Item]) -> None:
    def by_stack(report: Report) -> Counter[Any]:
        out: Counter[Any] = Counter()
        for row in report.stacks:
            if row.carrier and row.frames:
                out[row.stage, row.substage, row.reason, row.state, row.frames] += row.ns
        return out

    ours, theirs = by_stack(history_report(items)), by_stack(session_report(items))
    for key in ours.keys() | theirs.keys():
        assert ours[key] == pytest.approx(theirs[key], abs=8), key


@SLOW
@given(streams(most=4))
def test_merged_windows_have_the_sessions_states_waits_and_helpers(items: list[Item]) -> None:
    """How running time is split is an estimate, by window here and over all of them there; all else is the same."""
    ours, theirs = history_report(items), session_report(items)
    left, right = states_ns(ours), states_ns(theirs)
    assert left == pytest.approx(right, abs=200)
    assert off_cpu(ours) == pytest.approx(off_cpu(theirs), abs=16)
    assert ours.helpers == theirs.helpers
    assert ours.duration_ns == theirs.duration_ns
    assert ours.quality["lost"] == theirs.quality["lost"]
    assert ours.quality["samples"] == theirs.quality["samples"]
    assert ours.host.get("cpu_ns") == theirs.host.get("cpu_ns")


@SLOW
@given(streams(most=3), st.integers(0, 6))
def test_rows_add_up_to_the_ledger_exactly_however_few_stacks_are_kept(items: list[Item], kept: int) -> None:
    report = history_report(items, kept)
    ledger = {(stage, state): ns for stage, states in report.stages.items() for state, ns in states.items() if ns}
    assert rows_ns(report) == ledger
    assert sum(row.ns for row in report.stacks if not row.carrier) == sum(
        sum(helper.states_ns.values()) for helper in report.helpers)


def one_window(*rows: dict[str, Any], **sums: int) -> list[Item]:
    return [HEADER, definitions([MAIN]), Batch(SECOND, 11 * SECOND, slices(*rows), {}),
            Totals(SECOND, 11 * SECOND, totals(sums)), END]


def test_time_in_lighter_stacks_is_told_from_time_without_a_stack() -> None:
    """A window keeps one stack here; a stack that could not be walked is none that was dropped."""
    report = history_report(one_window(
        waited("logging", "io", 900), waited("serving", "io", 50), waited(0, "lock", 7), io=950, lock=7), stacks=1)
    assert {line.rpartition(" ")[0] for line in encode_folded(scaled(report)).splitlines()} == {
        "python;logging;logging (srv/app.py);[io]", "python;serving;(lighter_stacks);[io]",
        "python;unattributed;(no_stack);[lock]"}


def scaled(report: Report) -> Report:
    """Times a thousand, to be seen in microseconds."""
    return replace(report, stacks=tuple(replace(row, ns=1000 * row.ns) for row in report.stacks))


def test_a_walked_stack_without_frames_is_called_no_stack() -> None:
    report = history_report(one_window(waited(0, "io", 900), io=900))
    (row,) = report.stacks
    assert (row.stage, row.reason, row.missing, row.frames) == ("unattributed", "no_stack", "", ())


def test_helpers_have_time_but_no_stacks_and_say_so() -> None:
    report = report_of(window(1, 0))
    rows = [row for row in report.stacks if not row.carrier]
    assert rows and all(row.missing == "stacks_not_kept" and not row.frames for row in rows)
    assert {row.thread for row in rows} == {helper.library for helper in report.helpers}
    assert "libgomp.so.1;helper;(stacks_not_kept);[lock] " in encode_folded(report)


def test_every_exporter_takes_a_history() -> None:
    report = report_of(merge(*windows(6, processes=3)))
    assert encode_folded(report).count(";(lighter_stacks)") > 3
    assert "lighter_stacks" in encode_flame(report) and "lighter_stacks" in encode_speedscope(report)
    found = to_json(report)
    assert found["threads"] == [] and found["history"]["windows"] == 6
    assert {row["missing"] for row in found["stacks"]} <= {None, "lighter_stacks", "stacks_not_kept"}


def test_an_empty_summary_is_an_empty_report() -> None:
    report = report_of(Summary())
    assert report.total_ns() == 0 and report.ai_tax_ratio is None and report.stacks == ()
    assert encode_flame(report) and encode_folded(report) == ""


def test_names_of_another_version_are_counted_and_said() -> None:
    one = window(1, 0)
    (process,) = one.processes
    theirs = replace(one, cells={**one.cells, CellKey(process, "gossip.deep", "hovering"): Cell(10**9, 0),
                                 CellKey(process, "logging", "hovering"): Cell(5, 0)})
    report, before = report_of(theirs), report_of(one)
    assert report.total_ns() == before.total_ns() + 10**9 + 5 == theirs.total_ns()
    assert report.quality["unattributed"]["no_rule"] == before.quality["unattributed"]["no_rule"] + 10**9
    assert rows_ns(report)["logging", "other"] == 5
    assert any("gossip.deep, hovering" in note for note in report.notes)
    assert report.ai_tax_ratio == theirs.ai_tax_ratio()


def test_a_kind_of_frame_of_another_version_is_drawn() -> None:
    one = window(1, 0)
    frames = {number: Frame(cast(Any, "gpu"), f.file, f.name, f.line) for number, f in one.frames.items()}
    assert encode_flame(report_of(replace(one, frames=frames)))


def test_a_budget_that_took_hooks_out_is_said_with_a_way_out_that_an_agent_has() -> None:
    one = replace(window(1, 0), steps={"switches 1/4 of the time": 5 * SECOND, "everything": 5 * SECOND})
    (note,) = (note for note in report_of(one).notes if "short phases" in note)
    assert "for 50% of the time" in note and note.endswith("with a larger budget it sees more")


def test_samples_at_two_rates_are_said() -> None:
    def at(rate_hz: float, index: int) -> Summary:
        one = window(1, index)
        (number,) = one.sources
        source = replace(one.sources[number], rate_millihz=round(rate_hz * 1000))
        return replace(one, sources={number + index: source}, spans={number + index: one.spans[number]})

    report = report_of(merge(at(19, 0), at(99, 1), at(19, 2)))
    assert report.rate_hz == 19 and "sampled at 19 Hz and 99 Hz in turn" in report.notes


def test_a_thousand_processes_with_one_note_are_one_sentence() -> None:
    builder_items: list[Item] = [HEADER, Definitions([], [], [
        Process(pid, pid, "worker", None, note="musl") for pid in range(200, 1200)], [
        Thread(pid, pid, "worker", True) for pid in range(200, 1200)])]
    sums = totals(*[{"pid": pid, "tid": pid, "sleep": 5} for pid in range(200, 1200)])
    report = history_report([*builder_items, Totals(SECOND, 11 * SECOND, sums), END])
    assert [note for note in report.notes if "musl" in note] == ["process 200 and 999 more (worker): musl"]


# -- windows without a sample


def quiet(running_ns: int) -> Summary:
    (summary,) = summaries_of(one_window(waited("idle", "net", 9 * SECOND), net=9 * SECOND, running=running_ns))
    return summary


def busy() -> Summary:
    (summary,) = summaries_of(one_window(sample("compute.cpu", 100), sample("logging", 50), running=9 * SECOND))
    return summary


def test_a_window_without_a_sample_does_not_hide_the_error_of_the_others() -> None:
    assert quiet(1000_000).tax_error is None
    alone, with_quiet = folded([busy()]), folded([busy(), *[quiet(1_000_000)] * 30])
    error, more = alone.ai_tax_se(), with_quiet.ai_tax_se()
    assert error is not None and more is not None and error < more
    whole = with_quiet.busy_ns()
    assert more == pytest.approx(((error * alone.busy_ns() / whole) ** 2 + (30 * 1e6 / whole) ** 2) ** 0.5, rel=0.01)


def test_what_was_never_sampled_stays_without_an_error() -> None:
    assert folded([quiet(1_000_000)] * 3).ai_tax_se() is None
    assert report_of(folded([quiet(1_000_000)] * 3)).ai_tax_se is None


def test_an_error_that_is_unknown_for_another_reason_stays_unknown() -> None:
    unknown = replace(busy(), tax_error=None,
                      cells={key: replace(cell, variance_us2=None) for key, cell in busy().cells.items()})
    assert folded([busy(), unknown]).ai_tax_se() is None


# -- many windows


@SLOW
@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 60))
def test_a_fold_is_a_merge_whose_lightest_stacks_may_go(indexes: list[int], most: int) -> None:
    several = [window(1 + i % 3, i, stacks=12) for i in indexes]
    fold = Fold(most_stacks=most)
    for summary in several:
        fold.add(summary)
    ours, plain = fold.result(), merge(*several)
    ours.check()
    assert replace(ours, stacks={}, stack_frames={}, frames={}) == replace(plain, stacks={}, stack_frames={}, frames={})
    assert len(ours.stacks) <= most
    if most >= len(plain.stacks):
        assert ours == plain


def test_a_compacted_summary_still_adds_up() -> None:
    report = report_of(compact(window(1, 0), 5))
    assert sum(row.ns for row in report.stacks if row.carrier) == report.total_ns()
