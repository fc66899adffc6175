"""Two summaries into one. Associative and commutative, to the last bit, with `Summary()` as its identity.

Sums add up, unknown stays unknown, definitions are united. Where two definitions of one id differ, the greater stands:
of a process, field by field (an exec renames it, its Python is found later); of anything else that is a collision of
64-bit hashes, of odds n² / 2^65.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from excise.summary._parts import Cell, Helper, Program, Span, StackTime, TaxError
from excise.summary._summary import Summary
from excise.summary.histogram import Histogram
from excise.summary.numbers import merge_numbers

K = TypeVar("K")
V = TypeVar("V")


def merge(*summaries: Summary) -> Summary:
    """All of them as one."""
    out = Summary()
    for summary in summaries:
        out = _pair(out, summary)
    return out


def _pair(a: Summary, b: Summary) -> Summary:
    return Summary(
        windows=a.windows + b.windows,
        observed_ns=a.observed_ns + b.observed_ns,
        roots=a.roots | b.roots,
        sources=_united(a.sources, b.sources, max),
        spans=_united(a.spans, b.spans, lambda x, y: join_spans((*x, *y))),
        capabilities=_united(a.capabilities, b.capabilities, max),
        processes=_united(a.processes, b.processes, _program),
        cells=_united(a.cells, b.cells, _cell),
        stage_variances_us2=_united(a.stage_variances_us2, b.stage_variances_us2, _known_sum),
        tax_error=_tax_error(a.tax_error, b.tax_error),
        helpers=_united(a.helpers, b.helpers, _helper),
        lengths=_united(a.lengths, b.lengths, Histogram.plus),
        stacks=_united(a.stacks, b.stacks, lambda x, y: StackTime(x.ns + y.ns, x.count + y.count)),
        stack_frames=_united(a.stack_frames, b.stack_frames, max),
        frames=_united(a.frames, b.frames, lambda x, y: max(x, y, key=_frame_order)),
        kpis=merge_numbers("kpis", a.kpis, b.kpis),
        quality=merge_numbers("quality", a.quality, b.quality),
        cost=merge_numbers("cost", a.cost, b.cost),
        lost=_united(a.lost, b.lost, int.__add__),
        steps=_united(a.steps, b.steps, int.__add__),
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


def _united(a: Mapping[K, V], b: Mapping[K, V], both: Callable[[V, V], V]) -> dict[K, V]:
    out = dict(a)
    for key, value in b.items():
        before = out.get(key, out)
        out[key] = value if before is out else both(before, value)  # type: ignore[arg-type]
    return out


def _cell(a: Cell, b: Cell) -> Cell:
    return Cell(a.ns + b.ns, _known_sum(a.variance_us2, b.variance_us2))


def _known_sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _tax_error(a: TaxError | None, b: TaxError | None) -> TaxError | None:
    if a is None or b is None:
        return None
    return TaxError(a.compute_us2 + b.compute_us2, a.tax_us2 + b.tax_us2, a.covariance_us2 + b.covariance_us2)


def _helper(a: Helper, b: Helper) -> Helper:
    return Helper(max(a.threads, b.threads), _united(a.states_ns, b.states_ns, int.__add__))


def _program(a: Program, b: Program) -> Program:
    python = max((p for p in (a.python, b.python) if p is not None), default=None)
    return Program(max(a.boot_id, b.boot_id), max(a.pid, b.pid), max(a.start_ns, b.start_ns), max(a.comm, b.comm),
                   python, max(a.parent, b.parent), max(a.note, b.note))


def _frame_order(frame: Any) -> tuple[str, str, str, int]:
    return frame.kind, frame.file, frame.name, frame.line
