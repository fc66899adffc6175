"""Tables by key against dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from excise.ledger.table import MOST, KeyTable, SumTable

u64 = st.integers(0, 3) | st.integers(0, (1 << 64) - 1)
i64 = st.integers(-5, 5) | st.integers(-(1 << 63), (1 << 63) - 1)


def keys_of(width: int, most: int = 60) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.lists(st.tuples(*[u64] * width), max_size=most)


def words(keys: list[tuple[int, ...]], width: int) -> NDArray[np.uint64]:
    return np.array(keys, np.uint64).reshape(len(keys), width)


some = st.integers(1, 4).flatmap(lambda width: st.tuples(st.just(width), st.lists(keys_of(width), max_size=5)))


@given(some, st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_keys_are_numbered_as_they_come_and_found_again(
    case: tuple[int, list[list[tuple[int, ...]]]], room: int
) -> None:
    width, rounds = case
    table, twin = KeyTable(width, room), dict[tuple[int, ...], int]()
    for keys in rounds:
        assert table.find(words(keys, width)).tolist() == [twin.get(k, -1) for k in keys]
        expected = [twin.setdefault(k, len(twin)) for k in keys]
        assert table.intern(words(keys, width)).tolist() == expected
        assert len(table) == len(twin)
        assert [tuple(k) for k in table.keys.tolist()] == list(twin)


@given(keys_of(2), st.lists(st.booleans(), min_size=60, max_size=60))
@settings(max_examples=100, deadline=None)
def test_what_is_kept_is_numbered_anew(keys: list[tuple[int, ...]], flags: list[bool]) -> None:
    table = KeyTable(2, 2)
    table.intern(words(keys, 2))
    distinct = list(dict.fromkeys(keys))
    kept = np.array(flags[: len(distinct)], bool)
    table.keep(kept)
    left = [k for k, keep in zip(distinct, kept, strict=True) if keep]
    assert [tuple(k) for k in table.keys.tolist()] == left
    assert table.find(words(keys, 2)).tolist() == [left.index(k) if k in left else -1 for k in keys]


def clipped(n: int) -> int:
    return min(max(n, -MOST), MOST)


@given(st.lists(st.lists(st.tuples(st.tuples(u64, u64), st.tuples(i64, i64, i64)), max_size=30), max_size=5))
@settings(max_examples=200, deadline=None)
def test_sums_are_those_of_a_dictionary_and_end_at_their_limit(rounds: list[list[tuple]]) -> None:
    table, twin = SumTable(2, 3, rows=1), dict[tuple[int, ...], list[int]]()
    for items in rounds:
        for key, values in items:
            row = twin.setdefault(key, [0, 0, 0])
            row[:] = [clipped(a + clipped(b)) for a, b in zip(row, values, strict=True)]
        values = np.array([v for _, v in items], np.int64).reshape(len(items), 3)
        table.add(words([k for k, _ in items], 2), values)
        assert table.sums.tolist() == list(twin.values())
