"""The columns of the wire format as a summary. Whatever is wrong with them is Damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from excise.frames import Frame
from excise.framing import Damaged
from excise.summary._definitions import Defined, defined_of
from excise.summary._lists import Lists
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
from excise.summary._varint import Column, unpack, unrounded, unzigzag
from excise.summary.histogram import LOWEST_BUCKET, MAX_OCTAVES, MAX_SCALE, Histogram
from excise.summary.numbers import TABLES
from excise.summary.schema import SUMMARY, SUMMARY_KEYS

_MAX_COUNT: Final = 1 << 62
_FORMS: Final = {k.name: k.form for k in SUMMARY}


def decode_summary(content: dict[int, Any], defined: Defined, lists: Lists) -> Summary:
    columns = {name: Column(name, unpack(content.get(number, b"")))
               for name, number in SUMMARY_KEYS.items() if _FORMS[name] != "integer"}
    windows = content.get(SUMMARY_KEYS["windows"])
    if type(windows) is not int or not 0 <= windows <= _MAX_COUNT:
        raise Damaged("its windows are malformed")
    body = _Body(columns, defined, lists)
    body.take_processes()
    sources, spans, capabilities = _spans(columns["spans"], defined)
    error = TaxError(*map(unzigzag, columns["tax_error"].some(3))) if columns["tax_error"].more() else None
    summary = Summary(
        windows=windows, observed_ns=columns["observed_ns"].take(), roots=frozenset(body.roots), sources=sources,
        spans=spans, capabilities=capabilities, processes=body.processes, cells=body.cells,
        stage_variances_us2=_variances(columns["stage_variances"], lists), tax_error=error, helpers=body.helpers,
        lengths=body.lengths, stacks=body.stacks, stack_frames=body.stack_frames, frames=body.frames,
        **{section: _numbers(section, columns[section]) for section in TABLES},
        lost=_counts(columns["lost"], defined), steps=_counts(columns["steps"], defined))
    for column in columns.values():
        column.end()
    return summary


@dataclass(slots=True)
class _Body:
    columns: dict[str, Column]
    defined: Defined
    lists: Lists
    roots: set[int] = field(default_factory=set)
    processes: dict[int, Program] = field(default_factory=dict)
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    helpers: dict[HelperKey, Helper] = field(default_factory=dict)
    lengths: dict[LengthKey, Histogram] = field(default_factory=dict)
    stacks: dict[StackKey, StackTime] = field(default_factory=dict)
    stack_frames: dict[int, tuple[int, ...]] = field(default_factory=dict)
    frames: dict[int, Frame] = field(default_factory=dict)

    def take_processes(self) -> None:
        column = self.columns["processes"]
        while column.more():
            number, flags = column.some(2)
            process, program = defined_of(self.defined.processes, number, "process")
            if process in self.processes:
                raise Damaged("a process is there twice")
            self.processes[process] = program
            if flags & 1:
                self.roots.add(process)
            self._take_helpers(process)
            self._take_cells(process)
            self._take_lengths(process)

    def _take_helpers(self, process: int) -> None:
        column = self.columns["helpers"]
        for _ in _times(column.take()):
            library, threads, states = self.defined.string(column.take()), column.take(), column.take()
            times: dict[str, int] = {}
            for _ in _times(states):
                number, ns = column.some(2)
                _put(times, defined_of(list(self.lists.kernel_states), number, "state"), ns)
            _put(self.helpers, HelperKey(process, library), Helper(threads, times))

    def _take_cells(self, process: int) -> None:
        width, number = len(self.lists.states), -1
        for step in self.columns["cells"].some(self.columns["cell_counts"].take()):
            number += step + 1
            cls, state = self._names(number, width, 0)
            key = CellKey(process, cls, state)
            variance = unrounded(*self.columns["variances"].some(2))
            ns = self.columns["other_ns"].take() + self._take_stacks(key)
            self.cells[key] = Cell(ns, variance)

    def _take_stacks(self, cell: CellKey) -> int:
        number, total = -1, 0
        count = self.columns["stack_counts"].take()
        rows = zip(*(self.columns[name].some(count) for name in ("stacks", "stack_ns", "stack_records")), strict=True)
        for step, ns, records in rows:
            number += step + 1
            stack, frames = defined_of(self.defined.stacks, number, "stack")
            if stack not in self.stack_frames:
                named = [self.defined.frames[f] for f in frames]
                self.stack_frames[stack] = tuple(frame for frame, _ in named)
                self.frames.update(named)
            _put(self.stacks, StackKey(*cell, stack), StackTime(ns, records))
            total += ns
        return total

    def _take_lengths(self, process: int) -> None:
        width, number = len(self.lists.states) + 1, -1
        for _ in _times(self.columns["length_counts"].take()):
            step, scale, size = self.columns["lengths"].some(3)
            number += step + 1
            if scale > MAX_SCALE or not size:
                raise Damaged("a histogram is malformed")
            buckets: dict[int, int] = {}
            steps, counts = self.columns["buckets"].some(size), self.columns["bucket_counts"].some(size)
            bucket = LOWEST_BUCKET - 1
            for step, count in zip(steps, counts, strict=True):
                bucket += step + 1
                buckets[bucket] = count + 1
            if bucket >= MAX_OCTAVES << scale:
                raise Damaged("a histogram is malformed")
            cls, state = self._names(number, width, 1)
            self.lengths[LengthKey(process, cls, state)] = Histogram(scale, buckets)

    def _names(self, number: int, width: int, first: int) -> tuple[str, str]:
        if not width or number >= width * len(self.lists.classes):
            raise Damaged("a class is not defined")
        cls, state = divmod(number, width)
        return self.lists.classes[cls], ("", *self.lists.states)[state] if first else self.lists.states[state]


def _spans(
    column: Column, defined: Defined
) -> tuple[dict[int, Source], dict[int, tuple[Span, ...]], dict[int, tuple[str, ...]]]:
    sources: dict[int, Source] = {}
    spans: dict[int, list[Span]] = {}
    while column.more():
        number, start, length, mono, mono_length = column.some(5)
        source_number, source = defined_of(defined.sources, number, "source")
        if not length:
            raise Damaged("a span has no length")
        sources[source_number] = source
        spans.setdefault(source_number, []).append(Span(start, start + length, mono, mono + unzigzag(mono_length)))
    used = {source.capabilities for source in sources.values()}
    return (sources, {number: join_spans(mine) for number, mine in spans.items()},
            {number: names for number, names in defined.capabilities if number in used})


def _variances(column: Column, lists: Lists) -> dict[str, int | None]:
    out: dict[str, int | None] = {}
    while column.more():
        stage, shift, value = column.some(3)
        _put(out, defined_of(list(lists.stages), stage, "stage"), unrounded(shift, value))
    return out


def _numbers(section: str, column: Column) -> dict[str, int | None]:
    """Keys that today's table has not are left out."""
    names = {number.key: number.name for number in TABLES[section]}
    out: dict[str, int | None] = {}
    while column.more():
        key, value = column.some(2)
        if key in names:
            _put(out, names[key], value - 1 if value else None)
    return out


def _counts(column: Column, defined: Defined) -> dict[str, int]:
    out: dict[str, int] = {}
    while column.more():
        number, count = column.some(2)
        _put(out, defined.string(number), count)
    return out


def _put(out: dict[Any, Any], key: object, value: object) -> None:
    if key in out:
        raise Damaged("a key is there twice")
    out[key] = value


def _times(count: int) -> range:
    """Counts are hostile: the columns run out before this does, but a range must hold it."""
    return range(min(count, _MAX_COUNT))
