"""`ring.drain` against its plain twin, on rings as the kernel writes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ring_model import (
    KEY_FIELDS,
    KernelRing,
    Twin,
    Written,
    key_of,
    plain_bucket,
    plain_weighted,
    rows_of,
    side_of,
    slice_record,
    sums_of,
)

from excise.drain import MOST_NS, bucket_of, weighted
from excise.records import RAW_SLICE_DTYPE, REC_SAMPLE, REC_STACK, REC_TASK, REC_WAIT, WEIGHT_ONE
from excise.ring import AHEAD, DRAINED, FOLD_FULL, ROW_DTYPE, SIDE_FULL, Fold

u64 = st.integers(0, (1 << 64) - 1)
weights = st.just(WEIGHT_ONE) | st.integers(0, 4 * WEIGHT_ONE) | st.integers(0, (1 << 32) - 1)


def _range(name: str) -> tuple[int, int]:
    info = np.iinfo(RAW_SLICE_DTYPE[name])
    return int(info.min), int(info.max)


def _slices(kinds: st.SearchStrategy[int], few: bool) -> st.SearchStrategy[bytes]:
    """Slices whose fields come from a few values, so that keys meet, or from their whole range."""
    fields = {name: st.integers(*_range(name)) for name in KEY_FIELDS if name != "type"}
    if few:
        fields = {name: st.integers(0, 1) for name in fields} | {"syscall": st.integers(-1, 0)}
    span = st.integers(0, 1000) | st.integers(0, 1 << 40) | u64
    times = {"ts_ns": st.integers(1, 100), "value_ns": span, "runnable_ns": span, "weight": weights}
    return st.builds(slice_record, type=kinds, **fields, **times)


def _side(kind: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=7, max_size=120).map(lambda rest: bytes([kind]) + rest)


contents = st.one_of(
    _slices(st.sampled_from([REC_SAMPLE, REC_WAIT]), few=True),
    _slices(st.sampled_from([REC_SAMPLE, REC_WAIT]), few=False),
    _side(REC_STACK),
    _side(REC_TASK),
    st.binary(min_size=1, max_size=90).filter(lambda c: c[0] not in (REC_STACK, REC_TASK)),  # unknown, or cut short
)
written = st.builds(Written, contents, discarded=st.sampled_from([False, False, False, True]))


@given(
    st.lists(written, max_size=60),
    st.sampled_from([512, 1024, 4096]),
    st.integers(0, 4096).map(lambda n: n * 8),
    st.integers(1, 8),
    st.integers(24, 64),
    st.integers(1, 8),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 110)), min_size=1, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_any_stream_folds_as_its_plain_twin(
    stream: list[Written], size: int, start: int, rows: int, side_words: int, lengths: int,
    turns: list[tuple[int, int]],
) -> None:
    """Written and drained by turns, at any place in the ring; whatever stops the drain, it goes on from there."""
    ring, fold, twin = KernelRing(size, start), Fold(rows, side_words, lengths), Twin(rows, side_words, lengths)
    pending: list[Written] = []
    todo = list(reversed(stream))
    turn = 0
    while todo or pending:
        burst, until_ns = turns[turn % len(turns)]
        turn += 1
        for _ in range(burst):
            if not todo or not ring.write(todo[-1]):
                break
            pending.append(todo.pop())
        until_ns = until_ns if turn <= 4 * len(turns) else 0    # at last take all
        stop = fold.drain(ring.data, ring.producer, ring.consumer, until_ns)
        assert stop == twin.drain(pending, until_ns)
        assert int(ring.producer[0] - ring.consumer[0]) == sum(r.step for r in pending)
        assert fold.counts.tolist() == twin.counts
        assert int(fold.used[0]) == len(twin.rows) and int(fold.side_used[0]) == twin.side_words
        assert int(fold.length_used[0]) == twin.lengths_used()
        if stop == FOLD_FULL:
            assert rows_of(fold) == twin.take_rows()
        if stop == SIDE_FULL:
            assert side_of(fold) == twin.take_side()
    assert rows_of(fold) == twin.take_rows()
    assert side_of(fold) == twin.take_side()
    assert int(fold.counts.sum()) == sum(not r.discarded for r in stream)


@given(_slices(st.just(REC_WAIT), few=False), st.sampled_from(KEY_FIELDS), u64)
@settings(max_examples=200, deadline=None)
def test_records_that_differ_in_any_field_of_the_key_are_two_rows(content: bytes, name: str, value: int) -> None:
    one = np.frombuffer(content, RAW_SLICE_DTYPE)[0].copy()
    other = one.copy()
    other[name] = np.array(value, np.uint64).astype(RAW_SLICE_DTYPE[name])
    other["type"] = REC_WAIT if name != "type" else REC_SAMPLE
    expected = 1 + (key_of(one) != key_of(other))
    ring, fold = KernelRing(1024), Fold(8, 16)
    for raw in (one, other, one, other):
        assert ring.write(Written(raw.tobytes()))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    rows = rows_of(fold)
    assert len(rows) == expected
    assert sum(row.sums[0] for row in rows.values()) == 4


def test_time_is_no_part_of_the_key() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    for i in range(5):
        ring.write(Written(slice_record(type=REC_WAIT, tid=7, ts_ns=i, value_ns=10**i, runnable_ns=3 * i)))
    fold.drain(ring.data, ring.producer, ring.consumer)
    assert sums_of(fold) == [[5, 11_111, 30]]


def test_a_busy_record_holds_back_what_comes_after_it_until_it_is_whole() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    first, late, last = (Written(slice_record(type=REC_WAIT, tid=tid), busy=tid == 2) for tid in (1, 2, 3))
    ring.write(first)
    at = int(ring.producer[0])
    ring.write(late)
    ring.write(last)
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert int(ring.consumer[0]) == at and fold.counts.tolist() == [0, 1, 0, 0]
    ring.commit(at, late)
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert ring.consumer[0] == ring.producer[0]
    assert [key[KEY_FIELDS.index("tid")] for key in rows_of(fold)] == [1, 2, 3]


def test_a_record_that_was_discarded_once_it_was_whole_leaves_no_trace() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    gone = Written(slice_record(type=REC_WAIT), discarded=True, busy=True)
    ring.write(gone)
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED and ring.consumer[0] == 0
    ring.commit(0, gone)
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert ring.consumer[0] == ring.producer[0]
    assert not rows_of(fold) and fold.counts.sum() == 0


def test_an_unknown_record_type_is_counted_and_skipped() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    for content in (bytes([99]) * 33, slice_record(type=REC_SAMPLE), b"\0" * 8, slice_record(type=REC_SAMPLE)[:64]):
        ring.write(Written(content))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert fold.counts.tolist() == [1, 0, 0, 3]


@pytest.mark.parametrize("at", range(0, 80, 8))
def test_a_record_that_wraps_is_read_straight_on(at: int) -> None:
    """A slice of 72 bytes and its header of 8, `at` bytes before the end."""
    ring, fold = KernelRing(256, 256 * 1_000_003 - at), Fold(8, 16)
    ring.write(Written(slice_record(type=REC_WAIT, tid=5, value_ns=11, runnable_ns=13, ip=(1 << 64) - 1)))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    ((key, row),) = rows_of(fold).items()
    assert row.sums == [1, 11, 13, 0] and key[-1] == (1 << 64) - 1


def test_slices_later_than_asked_stay_for_the_next_drain() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    for ts in (10, 20, 21, 5):
        ring.write(Written(slice_record(type=REC_WAIT, ts_ns=ts, value_ns=ts)))
    assert fold.drain(ring.data, ring.producer, ring.consumer, 20) == AHEAD
    assert sums_of(fold) == [[2, 30, 0]]
    assert fold.drain(ring.data, ring.producer, ring.consumer, 20) == AHEAD
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert sums_of(fold) == [[2, 26, 0]]


def test_a_full_fold_still_takes_what_it_has_a_row_for() -> None:
    ring, fold = KernelRing(1024), Fold(2, 16)
    for tid in (1, 2, 1, 2, 3, 1):
        ring.write(Written(slice_record(type=REC_WAIT, tid=tid, value_ns=1)))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == FOLD_FULL
    assert [n for n, *_ in sums_of(fold)] == [2, 2]
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert [n for n, *_ in sums_of(fold)] == [1, 1]


def test_lengths_without_room_stop_the_drain_before_the_record_and_lose_nothing() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16, 2)
    for ns in (100, 1000, 100, 10_000, 100):
        ring.write(Written(slice_record(type=REC_WAIT, tid=7, value_ns=ns)))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == FOLD_FULL
    ((_, first),) = rows_of(fold).items()
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    ((_, second),) = rows_of(fold).items()
    assert [first.sums[:2], second.sums[:2]] == [[3, 1200], [2, 10_100]]
    assert list(first.lengths.values()) == [512, 256] and len(second.lengths) == 2


@given(u64 | st.integers(0, 63).flatmap(lambda e: st.integers(max((1 << e) - 3, 0), (1 << e) + 3)))
@example(0)
@example((1 << 64) - 1)
@settings(max_examples=300, deadline=None)
def test_a_length_is_in_the_bucket_that_whole_numbers_say(ns: int) -> None:
    assert bucket_of(ns) == plain_bucket(ns)


@given(u64 | st.integers(0, 1 << 50), weights)
@settings(max_examples=300, deadline=None)
def test_time_counts_by_its_weight_to_the_nearest_nanosecond(ns: int, weight: int) -> None:
    assert weighted(ns, weight) == plain_weighted(ns, weight)
    assert weighted(ns, WEIGHT_ONE) == min(ns, MOST_NS)


def test_a_record_that_stands_for_others_counts_as_they_would() -> None:
    ring, fold = KernelRing(1024), Fold(8, 16)
    for weight in (WEIGHT_ONE, 10 * WEIGHT_ONE, 0):
        ring.write(Written(slice_record(type=REC_WAIT, tid=7, value_ns=1000, runnable_ns=3, weight=weight)))
    fold.drain(ring.data, ring.producer, ring.consumer)
    (row,) = rows_of(fold).values()
    assert row.sums == [3, 12_000, 36, 9 * WEIGHT_ONE]
    assert row.variances == [1000.0**2 * 90, 9.0 * 90]
    assert row.lengths == {159: 12 * WEIGHT_ONE}


def test_side_records_come_back_byte_for_byte() -> None:
    ring, fold = KernelRing(1024), Fold(2, 64)
    sent = [bytes([REC_STACK, *range(n)]) for n in (7, 8, 9, 23)] + [bytes([REC_TASK]) * 24]
    for content in sent:
        ring.write(Written(content))
    assert fold.drain(ring.data, ring.producer, ring.consumer) == DRAINED
    assert side_of(fold) == sent and fold.take_side() == b""


words = st.tuples(*[st.integers(0, 2)] * 6)
sums = st.tuples(*[st.integers(-(1 << 40), 1 << 40)] * 3)


@given(st.lists(st.tuples(words, sums), max_size=40), st.integers(1, 12))
@example([((0,) * 6, (0, 5, 0)), ((0,) * 6, (0, -5, 0))], 1)
@settings(max_examples=150, deadline=None)
def test_rows_added_by_key_sum_exactly_and_refusals_are_counted(
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]], room: int
) -> None:
    """Negative sums are what a wait that began before the window brings."""
    fold = Fold(room, 8)
    expected: dict[tuple[int, ...], list[int]] = {}
    refused = 0
    for key, values in rows:
        if key not in expected and len(expected) == room:
            refused += 1
            continue
        row = expected.setdefault(key, [0, 0, 0])
        for i, n in enumerate(values):
            row[i] += n
    keys = np.array([k for k, _ in rows], np.uint64).reshape(len(rows), 6)
    values = np.array([s for _, s in rows], np.int64).reshape(len(rows), 3)
    assert fold.add(keys, values) == refused
    folded = fold.take_rows()
    assert folded.rows.dtype == ROW_DTYPE and not len(folded.lengths) and not folded.variances.any()
    got = {tuple(int(w) for w in np.frombuffer(r.tobytes(), np.uint64)): t[:3].tolist()
           for r, t in zip(folded.rows, folded.sums, strict=True)}
    assert got == expected


def test_a_fold_is_empty_after_its_rows_were_taken_and_takes_as_many_again() -> None:
    fold = Fold(4, 8)
    keys = np.arange(24, dtype=np.uint64).reshape(4, 6)
    for _ in range(3):
        assert fold.add(keys, np.ones((4, 3), np.int64)) == 0
        assert fold.add(keys + np.uint64(1), np.ones((4, 3), np.int64)) == 4
        folded = fold.take_rows()
        assert len(folded) == 4 and (folded.sums[:, :3] == 1).all() and not folded.sums[:, 3].any()
