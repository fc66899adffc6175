"""How much of a range was watched, and what is missing from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from excise.report import History, Hole
from excise.summary import Summary
from excise.workload import Workload

Reason = Callable[[int, int], "str | None"]
"""Why nothing is known of [start, end), ns since 1970."""


def coverage(
    summary: Summary,
    workload: Workload | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    edge_ns: int = 0,
    reason: Reason = lambda start, end: None,
) -> History:
    """Of [since, until), ns since 1970; left out: from the first window, to the end of the last.

    Windows do not begin when a user asks for them to, and the one that is open is written later: where the range begins
    or ends within `edge_ns` (a window and a half) of a window's edge, that edge stands for it.
    """
    spans = _joined((s.start_wall_ns, s.end_wall_ns) for mine in summary.spans.values() for s in mine)
    if not spans:
        start = since_ns or 0
        end = max(until_ns or start, start)
        return History(workload, summary.windows, start, end, 0, _holes([], start, end, reason))
    start, end = spans[0][0], spans[-1][1]
    if since_ns is not None and not abs(start - since_ns) < edge_ns:
        start = since_ns
    if until_ns is not None and not abs(end - until_ns) < edge_ns:
        end = until_ns
    inside = [(max(a, start), min(b, end)) for a, b in spans if a < end and b > start]
    watched = sum(b - a for a, b in inside)
    return History(workload, summary.windows, start, end, watched, _holes(inside, start, end, reason))


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of all sources: two that watched at once watched once."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _holes(spans: list[tuple[int, int]], start: int, end: int, reason: Reason) -> tuple[Hole, ...]:
    edges = [start, *(edge for span in spans for edge in span), end]
    return tuple(Hole(a, b, reason(a, b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)
