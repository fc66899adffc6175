"""What the numbers of a segment stand for. A definition is sent once, before what uses it, and has the next number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from excise.frames import Frame, FrameKind
from excise.framing import Damaged
from excise.summary._parts import Program, Source
from excise.summary._varint import Column, pack, unpack, unzigzag, zigzag
from excise.summary.ids import (
    MAX_TEXT_BYTES,
    capabilities_id,
    frame_id,
    process_id,
    source_id,
    stack_id,
)
from excise.summary.schema import DEFINITION_KEYS as D

MAX_DEFINED: Final = 1 << 17
"""Of a kind, in one segment: bounds what a reader holds. A segment of an hour has some thousands."""

MAX_STACK_FRAMES: Final = 1 << 20
"""Of all stacks of a segment."""

MAX_TEXT_TOTAL_BYTES: Final = 32 << 20
"""Of all strings of a segment."""

_TOO_MANY: Final = "its segment defines too much"
_SIGNED: Final = ("frame_files", "frame_names", "stack_frames")
_MAX_NUMBER: Final = (1 << 64) - 1


class Numbering:
    """Gives numbers out, and says what is new since it was last asked."""

    def __init__(self, frame_kinds: tuple[str, ...]) -> None:
        self._kinds = {kind: i for i, kind in enumerate(frame_kinds)}
        self._numbers: dict[tuple[str, object], int] = {}
        self._counts: dict[str, int] = {}
        self._stack_frames = 0
        self._strings: list[str] = []
        self._columns: dict[str, list[int]] = {}
        self._previous: dict[str, int] = {}

    def string(self, text: str) -> int:
        return self._number("string", text, lambda: self._strings.append(text))

    def frame(self, number: int, frame: Frame) -> int:
        def define() -> None:
            self._put("frame_kinds", self._kinds[frame.kind])
            self._put("frame_files", self.string(frame.file))
            self._put("frame_names", self.string(frame.name))
            self._put("frame_lines", frame.line)

        return self._number("frame", number, define)

    def stack(self, number: int, frames: list[int]) -> int:
        def define() -> None:
            self._stack_frames += len(frames)
            if self._stack_frames > MAX_STACK_FRAMES:
                raise ValueError(f"stacks of more than {MAX_STACK_FRAMES} frames: compact it")
            self._put("stack_lengths", len(frames))
            self._put("stack_frames", *frames)

        return self._number("stack", number, define)

    def process(self, number: int, program: Program) -> int:
        def define() -> None:
            python = 0 if program.python is None else self.string(program.python) + 1
            self._put("processes", self.string(program.boot_id), program.pid, program.start_ns,
                      self.string(program.comm), python, program.parent, self.string(program.note))

        # its fields may become known later: then it is defined again, under a new number
        return self._number("process", (number, program), define)

    def capabilities(self, number: int, names: tuple[str, ...]) -> int:
        return self._number("capabilities", number,
                            lambda: self._put("capabilities", len(names), *map(self.string, names)))

    def source(self, number: int, source: Source, capabilities: int) -> int:
        return self._number("source", number, lambda: self._put(
            "sources", self.string(source.boot_id), self.string(source.version), capabilities,
            self.string(source.collector), source.rate_millihz))

    def take_new(self) -> dict[int, object]:
        """Content of a definitions frame; empty when there is nothing new."""
        content: dict[int, object] = {}
        if self._strings:
            content[D["strings"]] = self._strings
        for name, number in D.items():
            if name in self._columns:
                content[number] = pack(self._columns[name])
        self._strings, self._columns, self._previous = [], {}, {}
        return content

    def _number(self, kind: str, key: object, define: Callable[[], None]) -> int:
        known = self._numbers.get((kind, key))
        if known is None:
            define()
            known = self._numbers[kind, key] = self._counts.get(kind, 0)
            self._counts[kind] = known + 1
            if known >= MAX_DEFINED:
                raise ValueError(f"more than {MAX_DEFINED} definitions of a {kind}: compact it")
        return known

    def half_full(self) -> bool:
        """Time for another segment."""
        defined = max(self._counts.values(), default=0)
        return defined > MAX_DEFINED // 2 or self._stack_frames > MAX_STACK_FRAMES // 2

    def _put(self, name: str, *values: int) -> None:
        column = self._columns.setdefault(name, [])
        if name not in _SIGNED:
            column.extend(values)
            return
        for value in values:
            column.append(zigzag(value - self._previous.get(name, 0)))
            self._previous[name] = value


class Defined:
    """What a segment has defined so far."""

    def __init__(self, frame_kinds: list[str]) -> None:
        self._kinds = frame_kinds
        self._text_bytes = self._stack_frames = 0
        self.strings: list[str] = []
        self.frames: list[tuple[int, Frame]] = []
        self.stacks: list[tuple[int, tuple[int, ...]]] = []  # id, frames by number
        self.processes: list[tuple[int, Program]] = []
        self.capabilities: list[tuple[int, tuple[str, ...]]] = []
        self.sources: list[tuple[int, Source]] = []

    def add(self, content: dict[int, Any]) -> None:
        """Takes a definitions frame. Raises Damaged."""
        columns = {name: Column(name, unpack(content.get(key, b""))) for name, key in D.items() if name != "strings"}
        self._add_strings(content.get(D["strings"], []))
        self._add_frames(columns)
        self._add_stacks(columns["stack_lengths"], columns["stack_frames"])
        self._add_processes(columns["processes"])
        self._add_capabilities(columns["capabilities"])
        self._add_sources(columns["sources"])
        for column in columns.values():
            column.end()

    def _add_strings(self, strings: object) -> None:
        if not isinstance(strings, list) or not all(isinstance(s, str) for s in strings):
            raise Damaged("its strings are malformed")
        sizes = [len(s.encode()) for s in strings]
        self._text_bytes += sum(sizes)
        if max(sizes, default=0) > MAX_TEXT_BYTES or self._text_bytes > MAX_TEXT_TOTAL_BYTES:
            raise Damaged("its strings are too long")
        if len(self.strings) + len(strings) > MAX_DEFINED:
            raise Damaged(_TOO_MANY)
        self.strings += strings

    def _add_frames(self, columns: dict[str, Column]) -> None:
        file = name = 0
        while columns["frame_kinds"].more():
            kind = defined_of(self._kinds, columns["frame_kinds"].take(), "kind")
            file += unzigzag(columns["frame_files"].take())
            name += unzigzag(columns["frame_names"].take())
            frame = Frame(cast(FrameKind, kind), self.string(file), self.string(name),
                          _small(columns["frame_lines"].take()))
            _append(self.frames, (frame_id(frame), frame))

    def _add_stacks(self, lengths: Column, frames: Column) -> None:
        number = 0
        while lengths.more():
            numbers = []
            length = lengths.take()
            self._stack_frames += length
            if self._stack_frames > MAX_STACK_FRAMES:
                raise Damaged(_TOO_MANY)
            for step in frames.some(length):
                number += unzigzag(step)
                numbers.append(number)
            ids = [defined_of(self.frames, n, "frame")[0] for n in numbers]
            _append(self.stacks, (stack_id(ids), tuple(numbers)))

    def _add_processes(self, column: Column) -> None:
        while column.more():
            boot, pid, start_ns, comm, python, parent, note = map(_small, column.some(7))
            program = Program(self.string(boot), pid, start_ns, self.string(comm),
                              self.string(python - 1) if python else None, parent, self.string(note))
            _append(self.processes, (process_id(program.boot_id, pid, start_ns), program))

    def _add_capabilities(self, column: Column) -> None:
        while column.more():
            names = tuple(map(self.string, column.some(column.take())))
            if list(names) != sorted(set(names)):
                raise Damaged("its capabilities are not sorted")
            _append(self.capabilities, (capabilities_id(names), names))

    def _add_sources(self, column: Column) -> None:
        while column.more():
            boot, version, number, collector, rate_millihz = map(_small, column.some(5))
            capabilities = defined_of(self.capabilities, number, "set of capabilities")[0]
            source = Source(self.string(boot), self.string(version), capabilities, self.string(collector), rate_millihz)
            number = source_id(source.boot_id, source.version, capabilities, source.collector, rate_millihz)
            _append(self.sources, (number, source))

    def string(self, number: int) -> str:
        return cast(str, defined_of(self.strings, number, "string"))


def _append(defined: list[Any], entry: object) -> None:
    if len(defined) == MAX_DEFINED:
        raise Damaged(_TOO_MANY)
    defined.append(entry)


def defined_of(defined: list[Any], number: int, what: str) -> Any:
    if not 0 <= number < len(defined):
        raise Damaged(f"a {what} is not defined")
    return defined[number]


def _small(value: int) -> int:
    if value > _MAX_NUMBER:
        raise Damaged("a number is out of range")
    return value
