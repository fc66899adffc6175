"""Summaries into one. Associative and commutative, to the last bit, with `Summary()` as its identity.

Sums add up, unknown stays unknown, definitions are united. Where two definitions of one id differ, the greater stands:
of a process, field by field (an exec renames it, its Python is found later); of anything else that is a collision of
64-bit hashes, of odds n² / 2^65.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from excise.frames import Frame
from excise.summary._parts import (
    NO_TAX_ERROR,
    Cell,
    CellKey,
    Helper,
    HelperKey,
    LengthKey,
    Program,
    Source,
    Span,
    StackKey,
    StackTime,
    TaxError,
)
from excise.summary._summary import Summary
from excise.summary.histogram import Histogram
from excise.summary.numbers import TABLES, merge_numbers

K = TypeVar("K")
V = TypeVar("V")


def merge(*summaries: Summary) -> Summary:
    """All of them as one."""
    merger = Merger()
    for summary in summaries:
        merger.add(summary)
    return merger.result()


class Merger:
    """Adds summaries up in place: a day of windows takes as long as their lengths say, and one of them in memory."""

    def __init__(self) -> None:
        self._windows = self._observed_ns = 0
        self._roots: set[int] = set()
        self._sources: dict[int, Source] = {}
        self._spans: dict[int, list[Span]] = {}
        self._capabilities: dict[int, tuple[str, ...]] = {}
        self._processes: dict[int, Program] = {}
        self._cells: dict[CellKey, Cell] = {}
        self._stage_variances: dict[str, int | None] = {}
        self._tax_error: TaxError | None = NO_TAX_ERROR
        self._helpers: dict[HelperKey, Helper] = {}
        self._lengths: dict[LengthKey, Histogram] = {}
        self._stacks: dict[StackKey, StackTime] = {}
        self._stack_frames: dict[int, tuple[int, ...]] = {}
        self._frames: dict[int, Frame] = {}
        self._numbers: dict[str, dict[str, int | None]] = {section: {} for section in TABLES}
        self._lost: dict[str, int] = {}
        self._steps: dict[str, int] = {}

    @property
    def stacks(self) -> int:
        """How many there are so far."""
        return len(self._stacks)

    def add(self, summary: Summary) -> None:
        self._windows += summary.windows
        self._observed_ns += summary.observed_ns
        self._roots |= summary.roots
        _unite(self._sources, summary.sources, max)
        for source, spans in summary.spans.items():
            self._spans.setdefault(source, []).extend(spans)
        _unite(self._capabilities, summary.capabilities, max)
        _unite(self._processes, summary.processes, _program)
        _add(self._cells, summary.cells, _cell)
        _add(self._stage_variances, summary.stage_variances_us2, _known_sum)
        self._tax_error = _tax_error(self._tax_error, summary.tax_error)
        _add(self._helpers, summary.helpers, _helper)
        _add(self._lengths, summary.lengths, Histogram.plus)
        _add(self._stacks, summary.stacks, _stack)
        _unite(self._stack_frames, summary.stack_frames, max)
        _unite(self._frames, summary.frames, lambda x, y: max(x, y, key=_frame_order))
        for section, numbers in self._numbers.items():
            self._numbers[section] = merge_numbers(section, numbers, getattr(summary, section))
        _add(self._lost, summary.lost, int.__add__)
        _add(self._steps, summary.steps, int.__add__)

    def result(self) -> Summary:
        """The sum so far; adding more does not change it."""
        return Summary(
            windows=self._windows, observed_ns=self._observed_ns, roots=frozenset(self._roots),
            sources=dict(self._sources), spans={source: join_spans(spans) for source, spans in self._spans.items()},
            capabilities=dict(self._capabilities), processes=dict(self._processes), cells=dict(self._cells),
            stage_variances_us2=dict(self._stage_variances), tax_error=self._tax_error, helpers=dict(self._helpers),
            lengths=dict(self._lengths), stacks=dict(self._stacks), stack_frames=dict(self._stack_frames),
            frames=dict(self._frames), **{section: dict(numbers) for section, numbers in self._numbers.items()},
            lost=dict(self._lost), steps=dict(self._steps),
        )


def join_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sorted; those that touch or overlap by the wall clock are one."""
    out: list[Span] = []
    for span in sorted(spans):
        if out and span.start_wall_ns <= out[-1].end_wall_ns:
            first = out[-1]
            end_wall_ns, end_mono_ns = max((s.end_wall_ns, s.end_mono_ns) for s in (first, span))
            out[-1] = Span(first.start_wall_ns, end_wall_ns, _start_mono(first, span), end_mono_ns)
        else:
            out.append(span)
    return tuple(out)


def _start_mono(a: Span, b: Span) -> int:
    return min((s.start_wall_ns, s.start_mono_ns) for s in (a, b))[1]


def _unite(ours: dict[K, V], theirs: Mapping[K, V], both: Callable[[V, V], V]) -> None:
    """Definitions: mostly the same on both sides."""
    for key, value in theirs.items():
        before = ours.setdefault(key, value)
        if before is not value and before != value:
            ours[key] = both(before, value)


def _add(ours: dict[K, V], theirs: Mapping[K, V], both: Callable[[V, V], V]) -> None:
    for key, value in theirs.items():
        ours[key] = both(ours[key], value) if key in ours else value


def _cell(a: Cell, b: Cell) -> Cell:
    return Cell(a.ns + b.ns, _known_sum(a.variance_us2, b.variance_us2))


def _known_sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _tax_error(a: TaxError | None, b: TaxError | None) -> TaxError | None:
    if a is None or b is None:
        return None
    return TaxError(a.compute_us2 + b.compute_us2, a.tax_us2 + b.tax_us2, a.covariance_us2 + b.covariance_us2)


def _helper(a: Helper, b: Helper) -> Helper:
    states_ns = dict(a.states_ns)
    _add(states_ns, b.states_ns, int.__add__)
    return Helper(max(a.threads, b.threads), states_ns)


def _stack(a: StackTime, b: StackTime) -> StackTime:
    return StackTime(a.ns + b.ns, a.count + b.count)


def _program(a: Program, b: Program) -> Program:
    python = max((p for p in (a.python, b.python) if p is not None), default=None)
    return Program(max(a.boot_id, b.boot_id), max(a.pid, b.pid), max(a.start_ns, b.start_ns), max(a.comm, b.comm),
                   python, max(a.parent, b.parent), max(a.note, b.note))


def _frame_order(frame: Frame) -> tuple[str, str, str, int]:
    return frame.kind, frame.file, frame.name, frame.line
