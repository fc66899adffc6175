"""A window's summary says what its report says, and windows add up to the whole."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import END, HEADER, PID, SECOND, FrameRules, definitions, report_of, sample, slices, totals, waited

from excise.batch import LENGTH_DTYPE, Batch, Cost, HostSample, Item, Totals
from excise.frames import Thread
from excise.names import STAGES
from excise.records import WEIGHT_ONE
from excise.stages import Rules
from excise.summarize import Summarizer
from excise.summary import ALL_STATES, LengthKey, Summary, merge

MAIN, WORKER = Thread(PID, PID, "main", True), Thread(101, PID, "pool-3", False)
WALL_NS, MONO_NS = HEADER.start_wall_ns, HEADER.start_mono_ns  # 5 s and 1 s


def summaries_of(items: Iterable[Item], window_ns: int = 10 * SECOND, stacks: int = 50) -> list[Summary]:
    out: list[Summary] = []
    summarizer = Summarizer(cast(Rules, FrameRules()), out.append, window_ns, stacks)
    for item in items:
        summarizer.feed(item)
    summarizer.close()
    return out


def stream() -> list[Item]:
    rows = slices(
        sample("preprocess", 40), sample("compute.gpu", 60), waited("data_loading", "io", 200_000_000, 20_000_000),
        waited("logging", "lock", 50_000_000), waited(0, "net", 1_000_000_000, tid=101),
    )
    lengths = np.zeros(2, LENGTH_DTYPE)
    lengths["row"], lengths["bucket"], lengths["weight"] = [2, 3], [300, 280], [7 * WEIGHT_ONE, 3 * WEIGHT_ONE]
    sums = totals(
        {"running": 3_000_000_000, "io": 200_000_000, "lock": 50_000_000, "runnable": 20_000_000,
         "sched_running_ns": 2_999_000_000, "sched_runnable_ns": 21_000_000},
        {"tid": 101, "net": 1_000_000_000},
    )
    return [
        HEADER, definitions([MAIN, WORKER]),
        Batch(SECOND, 6 * SECOND, rows, {"ring_full": 3}, lengths),
        HostSample(SECOND, 6 * SECOND, {"cpu_ns": 3_100_000_000, "rss_bytes": None, "listen_ports": [80]}),
        Cost(SECOND, 6 * SECOND, {"agent_ns": 5, "bpf_ns": 6, "tick_ns": 7, "target_cpu_ns": 8,
                                  "steps_ns": {"walk 1 in 2": 9}}),
        Totals(SECOND, 6 * SECOND, sums), END,
    ]


def test_a_summary_has_the_stages_of_the_report() -> None:
    (summary,), report = summaries_of(stream()), report_of(stream())
    for stage in STAGES:
        assert summary.stages_ns()[stage] == pytest.approx(report.stage_ns(stage), abs=8), stage
        error = report.stages_se_ns[stage]
        assert summary.stages_se_ns()[stage] == pytest.approx(error or 0, rel=0.01, abs=2000), stage
    assert summary.ai_tax_ratio() == pytest.approx(report.ai_tax_ratio, abs=1e-9)
    assert summary.ai_tax_se() == pytest.approx(report.ai_tax_se, rel=0.02)


def test_helpers_lengths_losses_cost_and_kpis_are_told() -> None:
    (summary,) = summaries_of(stream())
    (process,) = summary.processes
    (helper,) = summary.helpers.values()
    assert helper.threads == 1 and helper.states_ns == {"net": 1_000_000_000}
    io = summary.lengths[LengthKey(process, "data_loading", ALL_STATES)]
    assert io.buckets == {300: 7}
    assert summary.lost == {"ring_full": 3}
    assert summary.cost == {"agent_ns": 5, "bpf_ns": 6, "tick_ns": 7, "target_cpu_ns": 8}
    assert summary.steps == {"walk 1 in 2": 9}
    assert summary.kpis["cpu_ns"] == 3_100_000_000 and summary.kpis["rss_bytes"] is None
    assert summary.kpis["threads"] == 2 and summary.kpis["carriers"] == 1 and summary.kpis["listen_ports"] == 1
    assert summary.quality["sched_running_ns"] == 2_999_000_000


def test_stacks_are_the_heaviest_and_the_rest_stays_in_its_cell() -> None:
    (whole,), (few,) = summaries_of(stream()), summaries_of(stream(), stacks=2)
    assert len(few.stacks) == 2 < len(whole.stacks)
    assert {key: cell.ns for key, cell in few.cells.items()} == {key: cell.ns for key, cell in whole.cells.items()}


def part(at: int, until: int, ns: int) -> list[Item]:
    return [
        Batch(at, until, slices(waited("logging", "io", ns))),
        Totals(at, until, totals({"io": ns, "sleep": until - at - ns})),
    ]


def test_totals_within_one_window_of_the_clock_are_one_summary() -> None:
    """The stream begins at 5 s of the wall clock; windows of 10 s end at 10 s and 20 s."""
    cuts = [0, 1, 5, 12, 15]  # seconds from the start
    items: list[Item] = [HEADER, definitions([MAIN])]
    for a, b in pairwise(cuts):
        items += part(MONO_NS + a * SECOND, MONO_NS + b * SECOND, (b - a) * 1000)
    found = summaries_of([*items, END])
    assert [s.windows for s in found] == [1, 1]
    spans = [next(iter(s.spans.values())) for s in found]
    assert [[(x.start_wall_ns, x.end_wall_ns) for x in span] for span in spans] == [
        [(5 * SECOND, 10 * SECOND)], [(10 * SECOND, 20 * SECOND)]]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12, unique=True), st.integers(1, 60))
@settings(max_examples=80, deadline=None)
def test_windows_add_up_to_the_whole(cuts: list[int], window_ds: int) -> None:
    edges = [0, *sorted(cuts)]
    items: list[Item] = [HEADER, definitions([MAIN])]
    for i, (a, b) in enumerate(pairwise(edges)):
        items += part(MONO_NS + a * SECOND // 10, MONO_NS + b * SECOND // 10, 1_000 * (i + 1))
    found = summaries_of([*items, END], window_ns=window_ds * SECOND // 10)
    whole = found[0]
    for summary in found[1:]:
        whole = merge(whole, summary)
    assert whole.observed_ns == edges[-1] * SECOND // 10
    assert whole.total_ns() == whole.observed_ns
    io = sum(cell.ns for key, cell in whole.cells.items() if key.state == "io" and key.cls == "logging")
    assert io == sum(1_000 * (i + 1) for i in range(len(edges) - 1))
