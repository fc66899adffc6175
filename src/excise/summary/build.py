"""Makes a summary from what a ledger knows. Times may be fractions of a ns: they are rounded here, and stay closed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from excise.frames import Frame, Process
from excise.summary._compact import keep_stacks
from excise.summary._merge import join_spans
from excise.summary._parts import (
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
from excise.summary.ids import capabilities_id, clean, frame_id, process_id, source_id, stack_id
from excise.summary.numbers import Numbers


class SummaryBuilder:
    """One source, one window. Calls with equal keys add up. `build` gives the summary, once.

    `rate_hz`: samples per second and CPU, 0 not sampled. `span` is the window, aligned to the wall clock.
    """

    def __init__(self, *, boot_id: str, version: str, collector: str, rate_hz: float, capabilities: Iterable[str],
                 span: Span) -> None:
        if not (span.start_wall_ns < span.end_wall_ns and span.start_mono_ns < span.end_mono_ns):
            raise ValueError("a window has a length")
        names = tuple(sorted({clean(name) for name in capabilities}))
        self.boot_id = clean(boot_id)
        self._capabilities = {capabilities_id(names): names}
        source = Source(self.boot_id, clean(version), capabilities_id(names), clean(collector), round(rate_hz * 1000))
        self._source = source_id(source.boot_id, source.version, source.capabilities, source.collector,
                                 source.rate_millihz)
        self._sources = {self._source: source}
        self._span = span
        self._roots: set[int] = set()
        self._processes: dict[int, Program] = {}
        self._ns: defaultdict[CellKey, float] = defaultdict(float)
        self._variance: dict[CellKey, float | None] = {}
        self._stage_variances: dict[str, int | None] = {}
        self._tax_error: TaxError | None = None
        self._helpers: dict[HelperKey, Helper] = {}
        self._lengths: dict[LengthKey, Histogram] = {}
        self._stack_ns: defaultdict[StackKey, float] = defaultdict(float)
        self._stack_counts: defaultdict[StackKey, int] = defaultdict(int)
        self._stack_frames: dict[int, tuple[int, ...]] = {}
        self._frames: dict[int, Frame] = {}
        self._known: dict[tuple[Frame, ...], int] = {}

    def process(self, process: Process, *, root: bool = False) -> int:
        """Defines a process; its id, which the other calls take."""
        number = process_id(self.boot_id, process.pid, process.start_ns)
        python = None if process.python is None else clean(process.python)
        self._processes[number] = Program(self.boot_id, process.pid, process.start_ns, clean(process.comm), python,
                                          process.parent, clean(process.note))
        if root:
            self._roots.add(number)
        return number

    def cell(self, process: int, cls: str, state: str, ns: float, variance_us2: float | None = 0) -> None:
        """Carrier time of a class (CLASS_NAMES) in a state (STATES). Variance: 0 exact, None unknown."""
        key = CellKey(process, cls, state)
        self._ns[key] += ns
        before = self._variance.get(key, 0)
        self._variance[key] = None if before is None or variance_us2 is None else before + variance_us2

    def errors(self, stages_us2: Mapping[str, float | None], compute_us2: float, tax_us2: float,
               covariance_us2: float) -> None:
        """Variances of the stages' sums, of compute's and of the tax's, and the covariance of these two (TaxError).

        Not finite, or never called: unknown.
        """
        self._stage_variances = {stage: _variance(value) for stage, value in stages_us2.items()}
        compute, tax = _variance(compute_us2), _variance(tax_us2)
        both = _variance(abs(covariance_us2))
        if compute is not None and tax is not None and both is not None:
            self._tax_error = TaxError(compute, tax, both if covariance_us2 > 0 else -both)

    def helper(self, process: int, library: str, threads: int, states_ns: Mapping[str, float]) -> None:
        rounded = {state: max(round(ns), 0) for state, ns in states_ns.items() if ns >= 0.5}
        key = HelperKey(process, clean(library))
        before = self._helpers.get(key, Helper(0, {}))
        for state, ns in before.states_ns.items():
            rounded[state] = rounded.get(state, 0) + ns
        self._helpers[key] = Helper(before.threads + threads, rounded)

    def lengths(self, process: int, cls: str, state: str, histogram: Histogram) -> None:
        """Lengths of slices; `state` may be ALL_STATES. Empty ones are left out."""
        if histogram.buckets:
            key = LengthKey(process, cls, state)
            before = self._lengths.get(key)
            self._lengths[key] = histogram if before is None else before.plus(histogram)

    def stack(self, process: int, cls: str, state: str, frames: Sequence[Frame], ns: float, count: int) -> None:
        """Part of a cell's time that has this stack, leaf first. Without frames it stays the cell's `other_ns`."""
        if frames:
            key = StackKey(process, cls, state, self._intern(tuple(frames)))
            self._stack_ns[key] += ns
            self._stack_counts[key] += count

    def build(self, *, kpis: Numbers, quality: Numbers, cost: Numbers, lost: Mapping[str, int],
              steps: Mapping[str, int]) -> Summary:
        """ValueError when a cell has less time than its stacks, or a name is not in its table."""
        cells = {key: Cell(max(round(ns), 0), _variance(self._variance[key])) for key, ns in self._ns.items()}
        stacks = self._stacks(cells)
        summary = Summary(
            windows=1, observed_ns=self._span.end_mono_ns - self._span.start_mono_ns, roots=frozenset(self._roots),
            sources=self._sources, spans={self._source: join_spans([self._span])}, capabilities=self._capabilities,
            processes=self._processes, cells={k: c for k, c in cells.items() if c != Cell(0)},
            stage_variances_us2=self._stage_variances, tax_error=self._tax_error, helpers=self._helpers,
            lengths=self._lengths, stacks=stacks, stack_frames=self._stack_frames, frames=self._frames,
            kpis=dict(kpis), quality=dict(quality), cost=dict(cost),
            lost={clean(n): c for n, c in lost.items()}, steps={clean(n): ns for n, ns in steps.items()})
        summary = keep_stacks(summary, [key for key, stack in stacks.items() if stack.ns])
        summary.check()
        return summary

    def _stacks(self, cells: Mapping[CellKey, Cell]) -> dict[StackKey, StackTime]:
        """Rounded down; what floating point put above the cell, a few ns, is taken off the heaviest."""
        out = {key: max(math.floor(ns), 0) for key, ns in self._stack_ns.items()}
        left = {key: cell.ns for key, cell in cells.items()}
        for key, ns in out.items():
            left[CellKey(*key[:3])] -= ns
        for key in sorted(out, key=lambda key: -out[key]):
            cell = CellKey(*key[:3])
            excess = -left[cell]
            if 0 < excess <= 1 + cells[cell].ns * 1e-9:
                out[key] -= excess
                left[cell] = 0
        return {key: StackTime(ns, self._stack_counts[key]) for key, ns in out.items()}

    def _intern(self, frames: tuple[Frame, ...]) -> int:
        known = self._known.get(frames)
        if known is None:
            ids = []
            for frame in frames:
                cleaned = Frame(frame.kind, clean(frame.file), clean(frame.name), max(frame.line, 0))
                ids.append(frame_id(cleaned))
                self._frames[ids[-1]] = cleaned
            known = self._known[frames] = stack_id(ids)
            self._stack_frames[known] = tuple(ids)
        return known


def _variance(value: float | None) -> int | None:
    """To 7 significant bits, upwards: an error is not known better than by a part in a hundred, and is sent as
    few bytes."""
    if value is None or not math.isfinite(value):
        return None
    whole = max(math.ceil(value), 0)
    shift = max(whole.bit_length() - 7, 0)
    return -(-whole >> shift) << shift
