"""How much of a range was watched adds up, and what was not is named."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from typical_summary import window

from excise.history import coverage
from excise.summary import Span, Summary

SPANS = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 200)), max_size=12)


def watched(*spans: tuple[int, int]) -> Summary:
    one = window(1, 0, stacks=1)
    (source,) = one.sources
    return replace(one, spans={source: tuple(Span(a, b, a, b) for a, b in spans)})


def test_all_of_a_range() -> None:
    found = coverage(watched((0, 10), (10, 20)), None, 0, 20)
    assert (found.watched_ns, found.holes) == (20, ())


def test_a_hole_is_named_and_its_reason_asked_for() -> None:
    found = coverage(watched((0, 10), (15, 20)), None, 0, 20, reason=lambda start, end: f"{start}-{end}")
    assert found.watched_ns == 15
    assert [(h.start_wall_ns, h.end_wall_ns, h.reason) for h in found.holes] == [(10, 15, "10-15")]


def test_a_windows_edge_stands_for_that_of_the_range() -> None:
    found = coverage(watched((3, 10), (10, 18)), None, 0, 20, edge_ns=5)
    assert (found.start_wall_ns, found.end_wall_ns, found.watched_ns, found.holes) == (3, 18, 15, ())


def test_a_begin_that_is_further_away_is_a_hole() -> None:
    found = coverage(watched((8, 20)), None, 0, 20, edge_ns=5)
    assert (found.start_wall_ns, found.watched_ns, len(found.holes)) == (0, 12, 1)


def test_two_agents_that_watch_at_once_watched_once() -> None:
    one = watched((0, 10))
    (source,) = one.sources
    both = replace(one, sources={source: one.sources[source], 7: one.sources[source]},
                   spans={source: one.spans[source], 7: (Span(5, 15, 5, 15),)})
    assert coverage(both).watched_ns == 15


def test_nothing_watched_is_one_hole() -> None:
    found = coverage(Summary(), None, 5, 9)
    assert (found.watched_ns, [(h.start_wall_ns, h.end_wall_ns) for h in found.holes]) == (0, [(5, 9)])


@given(SPANS, st.integers(0, 600), st.integers(601, 1200), st.integers(0, 30))
def test_what_was_watched_and_what_was_not_is_the_range(
    spans: list[tuple[int, int]], since: int, until: int, edge: int
) -> None:
    found = coverage(watched(*[(a, a + n) for a, n in spans]), None, since, until, edge)
    assert found.watched_ns + sum(h.end_wall_ns - h.start_wall_ns for h in found.holes) == (
        found.end_wall_ns - found.start_wall_ns)
    assert all(h.start_wall_ns < h.end_wall_ns for h in found.holes)
    ends = [found.start_wall_ns, *(e for h in found.holes for e in (h.start_wall_ns, h.end_wall_ns)), found.end_wall_ns]
    assert ends == sorted(ends)
