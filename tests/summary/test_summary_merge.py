"""Merging is exact in any order; compacting changes no sum."""

from collections import Counter
from dataclasses import fields, replace
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from summary_strategies import HISTOGRAMS, UNHURRIED, summaries
from typical_summary import window, windows

from excise.summary import (
    Cell,
    CellKey,
    Histogram,
    Program,
    Span,
    StackKey,
    StackTime,
    Summary,
    bucket_of,
    compact,
    decode_segments,
    encode_segment,
    merge,
    stage_of,
)

KEYED = ("sources", "spans", "capabilities", "processes", "cells", "helpers", "lengths", "stacks", "stack_frames",
         "frames", "kpis", "quality", "cost", "lost", "steps", "stage_variances_us2")


@UNHURRIED
@given(summaries(), summaries(), summaries())
def test_merge_is_associative_and_commutative(a: Summary, b: Summary, c: Summary) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(c, b, a)
    assert merge(a, b) == merge(b, a)


@UNHURRIED
@given(summaries())
def test_the_empty_summary_is_mergings_identity(a: Summary) -> None:
    assert merge(a, Summary()) == merge(Summary(), a) == merge(a) == a


@UNHURRIED
@given(summaries(), summaries())
def test_merge_keeps_the_union_and_stays_valid(a: Summary, b: Summary) -> None:
    a.check()
    both = merge(a, b)
    both.check()
    for name in KEYED:
        assert getattr(both, name).keys() == getattr(a, name).keys() | getattr(b, name).keys()
    assert both.total_ns() == a.total_ns() + b.total_ns()
    assert decode_segments(encode_segment([both])) == [both]


@UNHURRIED
@given(summaries())
def test_parts_merge_to_the_whole(whole: Summary) -> None:
    """Every row of time in one of three parts; definitions in those that use them."""
    parts = [_part(whole, i) for i in range(3)]
    assert merge(*parts) == whole


def _part(whole: Summary, index: int) -> Summary:
    """Cells, with their stacks, and all else by where their keys hash to; part 0 has what is not keyed."""
    mine = {name: {k: v for k, v in getattr(whole, name).items() if crc32(str(k).encode()) % 3 == index}
            for name in ("cells", "helpers", "lengths", "kpis", "quality", "cost", "lost", "steps",
                         "stage_variances_us2")}
    stacks = {k: v for k, v in whole.stacks.items() if CellKey(*k[:3]) in mine["cells"]}
    stack_frames = {k.stack: whole.stack_frames[k.stack] for k in stacks}
    frames = {f: whole.frames[f] for ids in stack_frames.values() for f in ids}
    base = whole if index == 0 else replace(whole, windows=0, observed_ns=0, tax_error=Summary().tax_error)
    part = replace(base, **mine, stacks=stacks, stack_frames=stack_frames, frames=frames)
    part.check()
    return part


def test_windows_that_touch_become_one_span() -> None:
    whole = merge(*windows(6))
    (spans,) = whole.spans.values()
    assert len(spans) == 1 and whole.windows == 6
    assert spans[0].end_wall_ns - spans[0].start_wall_ns == 60_000_000_000
    (apart,) = merge(window(1, 0), window(1, 2)).spans.values()
    assert len(apart) == 2 and apart == tuple(sorted(apart))


def test_unknown_stays_unknown() -> None:
    key = CellKey(1, "logging", "io")
    a, b = Summary(cells={key: Cell(5, None)}, kpis={"cpu_ns": None}), Summary(cells={key: Cell(6, 1)},
                                                                                kpis={"cpu_ns": 3})
    both = merge(a, b)
    assert both.cells[key] == Cell(11, None) and both.kpis == {"cpu_ns": None}
    assert merge(replace(a, kpis={}), b).kpis == {"cpu_ns": 3}


def test_maxima_are_not_added() -> None:
    both = merge(Summary(kpis={"rss_bytes": 7, "cpu_ns": 7}), Summary(kpis={"rss_bytes": 5, "cpu_ns": 5}))
    assert both.kpis == {"rss_bytes": 7, "cpu_ns": 12}


def test_what_became_known_of_a_process_stands() -> None:
    before, after = Program("b", 1, 2, "sh"), Program("b", 1, 2, "uvicorn", "3.11.7", 9)
    assert merge(Summary(processes={5: before}), Summary(processes={5: after})).processes[5] == after


@UNHURRIED
@given(summaries(), summaries(), st.integers(0, 8))
def test_compact_changes_no_sum_and_leaves_no_loose_definition(a: Summary, b: Summary, k: int) -> None:
    whole = merge(a, b)
    small = compact(whole, k)
    small.check()
    assert len(small.stacks) == min(k, len(whole.stacks))
    assert small.cells == whole.cells and small.lengths == whole.lengths
    for key, ns in small.other_ns().items():
        kept = sum(t.ns for s, t in small.stacks.items() if s[:3] == key)
        assert ns + kept == whole.cells[key].ns
    same = [f.name for f in fields(Summary) if f.name not in ("stacks", "stack_frames", "frames")]
    assert all(getattr(small, name) == getattr(whole, name) for name in same)


@UNHURRIED
@given(summaries(), st.integers(0, 8))
def test_compact_does_not_depend_on_the_order_of_rows(summary: Summary, k: int) -> None:
    turned = replace(summary, stacks=dict(reversed(summary.stacks.items())))
    assert compact(turned, k) == compact(summary, k)


def test_compact_leaves_light_stages_theirs_and_takes_idle_last() -> None:
    stacks = {StackKey(1, "idle", "net", n): StackTime(1000, 1) for n in range(20)}
    stacks |= {StackKey(1, "compute.cpu", "running_user", n): StackTime(100 + n, 1) for n in range(20)}
    stacks |= {StackKey(1, "logging", "io", n): StackTime(1 + n, 1) for n in range(20)}
    kept = compact(Summary(stacks=stacks, stack_frames=dict.fromkeys(range(20), ())), 12).stacks
    by_stage = Counter(stage_of(key.cls) for key in kept)
    assert by_stage == {"idle": 2, "compute": 8, "logging": 2}
    assert StackKey(1, "logging", "io", 19) in kept and StackKey(1, "compute.cpu", "running_user", 19) in kept


@UNHURRIED
@given(HISTOGRAMS, HISTOGRAMS, HISTOGRAMS)
def test_histograms_add_up_in_any_order_at_any_scale(a: Histogram, b: Histogram, c: Histogram) -> None:
    assert a.plus(b).plus(c) == a.plus(b.plus(c)) == c.plus(a).plus(b)
    assert a.plus(b).count() == a.count() + b.count()
    assert a.lowered(0) == a.lowered(a.scale // 2).lowered(0)


@UNHURRIED
@given(st.integers(1, (1 << 64) - 1))
def test_a_bucket_holds_what_belongs_to_it(value: int) -> None:
    """2^(i/16) < value <= 2^((i+1)/16), in integers."""
    bucket = bucket_of(value)
    assert value ** 16 <= 1 << (bucket + 1)
    assert bucket == -1 or value ** 16 > 1 << bucket


def test_buckets_edges_are_exact_at_powers_of_two() -> None:
    assert [bucket_of(v) for v in (0, 1, 2, 3, 4, 1 << 20, (1 << 20) + 1)] == [-1, -1, 15, 25, 31, 319, 320]
    assert Histogram.of([1, 2, 4]).lowered(0).buckets == {-1: 1, 0: 1, 1: 1}


def test_quantiles_are_ends_of_buckets() -> None:
    histogram = Histogram.of([100] * 98 + [10_000, 1_000_000])
    q50, q99, q100 = (histogram.quantile_ns(q) for q in (0.5, 0.99, 1.0))
    assert q50 and q99 and q100
    assert 100 <= q50 < 105 and 10_000 <= q99 < 10_450 and 1_000_000 <= q100 < 1_045_000
    assert Histogram(4, {}).quantile_ns(0.5) is None


def test_a_tax_error_is_that_of_independent_windows() -> None:
    one = window(1, 0)
    four = merge(one, one, one, one)
    alone, together = one.ai_tax_se(), four.ai_tax_se()
    assert alone and together
    assert abs(together - alone / 2) < 1e-12 and one.ai_tax_ratio() == four.ai_tax_ratio()
    assert merge(one, replace(one, tax_error=None)).ai_tax_se() is None


def test_spans_keep_both_clocks_edges() -> None:
    a, b = Span(0, 10, 100, 110), Span(10, 20, 110, 121)
    assert merge(Summary(spans={1: (a,)}), Summary(spans={1: (b,)})).spans == {1: (Span(0, 20, 100, 121),)}
