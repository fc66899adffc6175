"""Addresses by function: the same names as one address at a time, and each function looked up once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from native_program import Program

from excise_agent._elf import Elf, Segment
from excise_agent.maps import read_maps
from excise_agent.native import NativeSymbols
from excise_agent.safe_open import Opened
from excise_agent.symbol_spans import MAX_SPANS, SymbolSpans
from excise_agent.symbols import MAX_GAP, SymbolFile

Start = Callable[[Path], int]
symbol_tables = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=25, unique_by=lambda s: s[0])


def named(table: list[tuple[int, int]]) -> SymbolFile:
    """A file whose symbols are called by their address; it has one segment at offset and address 0."""
    table = sorted(table)
    starts, sizes = ([symbol[i] for symbol in table] for i in range(2))
    columns = tuple(np.array(c, np.uint32) for c in (starts, sizes, starts))
    elf = Elf((Segment(0, 0, 1 << 20, 1 << 20, True),), np.zeros(0, np.uint8).view(), "", None)
    file = SymbolFile(cast(Opened, None), elf, (0, 0), 0, cast("tuple", columns))
    file._name = lambda index: str(table[index][0])  # type: ignore[method-assign]
    return file


def twin(table: list[tuple[int, int]], at: int) -> str:
    """The innermost of the eight symbols before an address that holds it."""
    table = sorted(table)
    last = bisect_right([a for a, _ in table], at) - 1
    for i in range(last, max(last - 8, -1), -1):
        start, size = table[i]
        if at - start < size or (size == 0 and i == last and at - start < MAX_GAP):
            return str(start)
    return ""


@given(symbol_tables)
@settings(max_examples=300, deadline=None)
def test_all_of_a_span_has_its_name_and_spans_do_not_overlap(table: list[tuple[int, int]]) -> None:
    file, at = named(table), 0
    while at < 480:
        low, high, name = file.span_at(at)
        assert low == at and high > at
        for address in {low, (low + min(high, 500)) // 2, min(high, 500) - 1}:
            assert name == twin(table, address)
            assert file.span_at(address)[2] == name
        at = high


def test_addresses_of_a_live_program_have_the_names_of_one_at_a_time(program: Program, start: Start) -> None:
    pid = start(program.path)
    maps = read_maps(pid)
    assert maps is not None
    rng = np.random.default_rng(3)
    addresses = np.concatenate(
        [rng.integers(m.start, m.end, 300, np.uint64) for m in maps.mappings] + [np.array([0, 1, 77], np.uint64)]
    )
    native, alone = NativeSymbols(), NativeSymbols()
    spans = SymbolSpans(native)
    for _ in range(2):
        starts = spans.starts(pid, addresses)
        for address, begin in zip(addresses.tolist(), starts.tolist(), strict=True):
            assert spans.frame(pid, begin) == alone.resolve(pid, address), hex(address)
    functions = len(set(starts.tolist()))
    assert functions < len(addresses) / 2


def test_a_function_is_looked_up_once(program: Program, start: Start) -> None:
    pid = start(program.path)
    maps = read_maps(pid)
    assert maps is not None
    asked: list[int] = []

    class Counting(NativeSymbols):
        def span(self, pid: int, addr: int):  # type: ignore[no-untyped-def]
            asked.append(addr)
            return super().span(pid, addr)

    spans = SymbolSpans(Counting())
    code = maps.mappings[0]
    addresses = np.arange(code.start, code.end, dtype=np.uint64)
    starts = spans.starts(pid, addresses)
    assert len(asked) == len(set(starts.tolist()))
    spans.starts(pid, addresses)
    assert len(asked) == len(set(starts.tolist()))
    spans.forget(pid)
    spans.starts(pid, addresses[:1])
    assert len(asked) == len(set(starts.tolist())) + 1


def test_spans_are_bounded() -> None:
    class Fine(NativeSymbols):
        def version(self, pid: int) -> int:
            return 1

        def span(self, pid: int, addr: int):  # type: ignore[no-untyped-def]
            from excise.frames import Frame

            return addr, addr + 1, Frame("native", "lib.so", str(addr))

    spans = SymbolSpans(Fine())
    for start_at in range(1, 3 * MAX_SPANS, 5000):
        spans.starts(1, np.arange(start_at, start_at + 5000, dtype=np.uint64))
        assert sum(len(image.lows) for image in spans._images.values()) <= MAX_SPANS + 1
