"""What a span's items fold into, against plain dictionaries."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from excise.batch import LENGTH_DTYPE, SLICE_DTYPE, TOTALS_DTYPE, Batch, Cost, Totals
from excise.ledger.tally import SUM_FIELDS, Tally, merge_costs, row_words, rows_of
from excise.names import KERNEL_STATES

KEY = [n for n in SLICE_DTYPE.names or () if n not in (*SUM_FIELDS, "waker")]


def field(name: str) -> st.SearchStrategy[int]:
    if name in SUM_FIELDS:
        return st.integers(0, 1000) if name == "count" else st.integers(-(1 << 40), 1 << 40)
    info = np.iinfo(SLICE_DTYPE[name])
    return st.integers(0, 1) | st.integers(int(info.min), int(info.max))


def table(names: tuple[str, ...], dtype: np.dtype[Any], one: Any, most: int) -> st.SearchStrategy[NDArray[np.void]]:
    row = st.tuples(*[one(n) for n in names])
    return st.lists(row, max_size=most).map(lambda rows: np.array(rows, dtype))


slices_of = table(SLICE_DTYPE.names or (), SLICE_DTYPE, field, 12)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    slices = draw(slices_of)
    limits = {"row": (0, max(len(slices) - 1, 0)), "bucket": (-1, 1023), "weight": (1, 1 << 40)}
    lengths = draw(table(tuple(limits), LENGTH_DTYPE, lambda n: st.integers(*limits[n]), 8 if len(slices) else 0))
    return Batch(0, 1, slices, {}, lengths)


@given(st.lists(batches(), max_size=4))
@settings(max_examples=150, deadline=None)
def test_rows_and_their_lengths_fold_as_in_a_dictionary(some: list[Batch]) -> None:
    tally = Tally()
    rows: dict[tuple[int, ...], list[int]] = {}
    lengths: defaultdict[tuple[tuple[int, ...], int], int] = defaultdict(int)
    for batch in some:
        keys = [tuple(int(r[n]) for n in KEY) for r in batch.slices]
        for key, r in zip(keys, batch.slices, strict=True):
            row = rows.setdefault(key, [0] * len(SUM_FIELDS))
            row[:] = [a + int(r[n]) for a, n in zip(row, SUM_FIELDS, strict=True)]
        for at, bucket, weight in batch.lengths.tolist():
            lengths[keys[at], bucket] += weight
        tally.take_batch(batch)
    found = tally.slices()
    keys = [tuple(int(r[n]) for n in KEY) for r in found]
    assert dict(zip(keys, ([int(r[n]) for n in SUM_FIELDS] for r in found), strict=True)) == rows
    assert {(keys[row], bucket): weight for row, bucket, weight in tally.lengths().tolist()} == lengths
    assert not found["waker"].any()


@given(slices_of)
@settings(deadline=None)
def test_a_row_is_packed_without_loss(slices: NDArray[np.void]) -> None:
    sums = np.array([[int(r[n]) for n in SUM_FIELDS] for r in slices], np.int64).reshape(-1, len(SUM_FIELDS))
    slices["waker"] = 0
    assert rows_of(row_words(slices), sums).tolist() == slices.tolist()


def test_errors_of_totals_add_in_quadrature_and_none_stays_none() -> None:
    def totals(tid: int, se_ns: int) -> Totals:
        rows = np.zeros(1, TOTALS_DTYPE)
        rows["tid"], rows["se_ns"][0, 0], rows["state_ns"][0, 0] = tid, se_ns, 10
        return Totals(0, 1, rows)

    tally = Tally()
    for item in (totals(1, 0), totals(2, 3), totals(3, 0), totals(2, 4), totals(1, 0)):
        tally.take_totals(item)
    out = tally.totals_array()
    assert out["tid"].tolist() == [1, 2, 3]
    assert out["se_ns"][:, 0].tolist() == [0, 5, 0] and out["state_ns"][:, 0].tolist() == [20, 20, 10]
    assert not out["se_ns"][:, 1:].any() and out["se_ns"].shape == (3, len(KERNEL_STATES))


def test_costs_add_up_by_name() -> None:
    tally = Tally()
    tally.take_cost(Cost(0, 1, {"agent_ns": 5, "steps": {"full": 3, "walk": 1}, "step": "full", "bpf_ns": None}))
    tally.take_cost(Cost(1, 2, {"agent_ns": 7, "steps": {"walk": 2, "rate": 4}, "step": "rate", "bpf_ns": 3}))
    assert tally.costs == {"agent_ns": 12, "steps": {"full": 3, "walk": 3, "rate": 4}, "step": "rate", "bpf_ns": None}


def test_merging_costs_changes_neither() -> None:
    one, other = {"a": {"b": 1}}, {"a": {"b": 2}}
    assert merge_costs(one, other) == {"a": {"b": 3}} and one == {"a": {"b": 1}} and other == {"a": {"b": 2}}
