"""Lengths of waits, weights and errors in a recording: there when they say something, absent from old files."""

from __future__ import annotations

import numpy as np
import pytest
from recording_files import comparable, file_of, frames_of, reading, recorded
from typical_recording import minute

from excise import names
from excise.batch import LENGTH_DTYPE, SLICE_DTYPE, TOTALS_DTYPE, Batch, Cost, End, Header, Totals
from excise.recording import RecordingError
from excise.recording._format import FrameType
from excise.recording._tables import MAX_LENGTHS, MAX_ROWS

HEADER, END = Header("boot", {}, {"pid": 1}, 1, 1, 99.0), End(9, "duration", {})


def lengths_of(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array(list(rows), LENGTH_DTYPE)


def test_lengths_are_split_with_their_slices() -> None:
    random = np.random.default_rng(1)
    n = 2 * MAX_ROWS + 5
    lengths = np.zeros(3 * MAX_LENGTHS, LENGTH_DTYPE)
    lengths["row"] = np.sort(random.integers(0, n, len(lengths)))
    lengths["bucket"], lengths["weight"] = random.integers(-1, 1024, len(lengths)), np.arange(len(lengths))
    slices = np.zeros(n, SLICE_DTYPE)
    slices["weight_ns"] = np.arange(n)
    batches = [i for i in reading(recorded([HEADER, Batch(0, 1, slices, {"ring_full": 3}, lengths), END])).items()
               if isinstance(i, Batch)]
    assert np.array_equal(np.concatenate([b.slices for b in batches]), slices)
    assert [b.lost for b in batches] == [{"ring_full": 3}, *[{}] * (len(batches) - 1)]
    whole = []
    for b in batches:
        assert len(b.lengths) <= MAX_LENGTHS and len(b.slices) <= MAX_ROWS
        whole += [(int(b.slices["weight_ns"][row]), bucket, weight) for row, bucket, weight in b.lengths.tolist()]
    assert whole == lengths.tolist()


def test_lengths_out_of_order_are_put_in_order() -> None:
    mixed = lengths_of((1, 5, 256), (0, 7, 512), (1, 4, 256))
    batch = next(i for i in reading(recorded([HEADER, Batch(0, 1, np.zeros(2, SLICE_DTYPE), {}, mixed), END])).items()
                 if isinstance(i, Batch))
    assert batch.lengths.tolist() == [(0, 7, 512), (1, 5, 256), (1, 4, 256)]


def test_a_length_of_no_slice_is_not_written() -> None:
    with pytest.raises(RecordingError, match="a length is of no slice"):
        recorded([HEADER, Batch(0, 1, np.zeros(1, SLICE_DTYPE), {}, lengths_of((1, 5, 256)))])


@pytest.mark.parametrize("change", [
    {"step": ["|u1", b"\xff"]}, {"step": ["|i1", b"\xff"]}, {"rows": MAX_LENGTHS + 1}, {"rows": 2}, {"bucket": None},
    {"weight": ["<i8", b""]}, {"bucket": ["<i4", b"\0\0\xff\x7f"]}])
def test_lengths_that_nobody_wrote_are_damage(change: dict[str, object]) -> None:
    frames = frames_of(recorded([HEADER, Batch(0, 1, np.zeros(1, SLICE_DTYPE), {}, lengths_of((0, 5, 256))), END]))
    (content,) = (c for kind, c in frames if kind is FrameType.BATCH)
    content["lengths"].update(change)
    with pytest.raises(RecordingError, match="is damaged in frame"):
        list(reading(file_of(frames)).items())


def test_what_was_not_thinned_needs_no_columns_and_reads_as_exact() -> None:
    frames = frames_of(recorded(minute(seconds=1, stacks=100)))
    for kind, content in frames:
        if kind is FrameType.BATCH:
            assert not {"thinned", "weight_var_us2", "runnable_var_us2"} & set(content["columns"])
        if kind is FrameType.TOTALS:
            assert "se_ns" not in content
    assert [comparable(i) for i in reading(file_of(frames)).items()] == [
        comparable(i) for i in minute(seconds=1, stacks=100)]


def test_a_file_of_before_lengths_reads_without_them() -> None:
    frames = [(kind, {k: v for k, v in content.items() if k != "lengths"})
              for kind, content in frames_of(recorded(minute(seconds=1, stacks=100))) if kind is not FrameType.COST]
    read = list(reading(file_of(frames)).items())
    assert all(len(i.lengths) == 0 for i in read if isinstance(i, Batch))
    assert not any(isinstance(i, Cost) for i in read)


def test_errors_of_states_that_a_later_version_tells_apart_are_joined() -> None:
    rows = np.zeros(1, TOTALS_DTYPE)
    lock, other = names.KERNEL_STATE_ID["lock"], names.KERNEL_STATE_ID["other"]
    rows["se_ns"][0, [lock, other]] = 3, 4
    frames = frames_of(recorded([HEADER, Totals(0, 1, rows), END]))
    frames[0][1]["kernel_states"][lock] = "quantum"
    after = next(i for i in reading(file_of(frames)).items() if isinstance(i, Totals))
    assert after.rows["se_ns"][0, other] == 5 and after.rows["se_ns"][0, lock] == 0


def test_a_negative_error_is_damage() -> None:
    rows = np.zeros(1, TOTALS_DTYPE)
    rows["se_ns"][0, 0] = -1
    with pytest.raises(RecordingError, match="a standard error is negative"):
        list(reading(recorded([HEADER, Totals(0, 1, rows), END])).items())
