import numpy as np
import pytest
from hypothesis import given, settings
from recording_files import comparable, file_of, frames_of, merged, reading, recorded
from recording_strategies import streams
from typical_recording import SECOND_NS, minute

from excise import names
from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, Definitions, End, Header, Item, Totals
from excise.frames import Frame, Thread
from excise.recording import RecordingError
from excise.recording._format import FrameType

HEADER = Header("boot", {}, {"pid": 1}, 1, 1, 99.0)
END = End(9, "duration", {})


@given(streams())
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_read(items: list[Item]) -> None:
    recording = reading(recorded(items))
    assert merged(recording.items()) == merged(items)
    assert not recording.truncated
    assert not recording.skipped


def test_a_minute_of_a_typical_server_is_under_a_megabyte() -> None:
    assert len(recorded(minute())) < 600_000  # measured: 500 kB, of which 115 kB are lengths of waits


def test_replayed_arrays_have_the_types_that_a_collector_makes() -> None:
    items = list(reading(recorded(minute(seconds=1, stacks=100))).items())
    batch, totals = (next(i for i in items if isinstance(i, kind)) for kind in (Batch, Totals))
    assert (batch.slices.dtype, totals.rows.dtype) == (SLICE_DTYPE, TOTALS_DTYPE)
    assert batch.slices.flags.writeable and batch.slices.flags.c_contiguous


def test_large_items_are_split_and_lose_nothing() -> None:
    rows = np.zeros(40_000, SLICE_DTYPE)
    rows["weight_ns"] = np.arange(40_000)
    rows["stack"] = 1 + np.arange(40_000) % 150_000
    totals = np.zeros(20_000, TOTALS_DTYPE)
    totals["tid"] = np.arange(20_000)
    frames = [Frame("native", "/usr/lib/libtorch.so", "x" * 900 + str(i)) for i in range(5_000)]
    stacks = [tuple((i + j) % 5_000 for j in range(20)) for i in range(150_000)]
    read = list(reading(recorded([
        HEADER, Definitions(frames, stacks), Batch(0, SECOND_NS, rows, {"ring_full": 3}),
        Totals(0, SECOND_NS, totals), END])).items())
    definitions = [i for i in read if isinstance(i, Definitions)]
    batches = [i for i in read if isinstance(i, Batch)]
    assert [f for d in definitions for f in d.frames] == frames
    assert [s for d in definitions for s in d.stacks] == stacks
    assert np.array_equal(np.concatenate([b.slices for b in batches]), rows)
    assert [b.lost for b in batches] == [{"ring_full": 3}, {}, {}]
    assert np.array_equal(np.concatenate([i.rows for i in read if isinstance(i, Totals)]), totals)


def test_names_that_are_not_utf8_are_escaped_and_endless_ones_cut() -> None:
    odd = Definitions([Frame("native", "/tmp/a\udce9.so", "T" * 40_000)],
                      threads=[Thread(1, 1, "\udcff", False)])
    frame, thread = (d for i in reading(recorded([HEADER, odd, END])).items() if isinstance(i, Definitions)
                     for d in (*i.frames, *i.threads))
    assert isinstance(frame, Frame) and frame.file == "/tmp/a\\udce9.so" and len(frame.name) == 16 << 10
    assert isinstance(thread, Thread) and thread.name == "\\udcff"


def test_numpy_numbers_in_dictionaries_become_plain_ones() -> None:
    end = End(9, "duration", {"agent_cpu_ratio": np.float64(0.5), "records": np.int64(7)})
    assert list(reading(recorded([HEADER, end])).items())[-1] == End(9, "duration",
                                                                     {"agent_cpu_ratio": 0.5, "records": 7})


def test_an_old_file_reads_by_its_own_lists() -> None:
    """Here the file had the lists in another order."""
    items = list(minute(seconds=2, stacks=100))
    frames = frames_of(recorded(items))
    lists = frames[0][1]
    lists["kernel_states"] = lists["kernel_states"][::-1]
    lists["frame_kinds"] = lists["frame_kinds"][::-1]
    read = list(reading(file_of(frames)).items())
    last = len(names.KERNEL_STATES) - 1
    for before, after in zip(items, read, strict=True):
        if isinstance(before, Batch) and isinstance(after, Batch):
            assert np.array_equal(after.slices["state"], last - before.slices["state"])
        if isinstance(before, Totals) and isinstance(after, Totals):
            assert np.array_equal(after.rows["state_ns"], before.rows["state_ns"][:, ::-1])
        if isinstance(before, Definitions) and isinstance(after, Definitions):
            assert {f.kind for f in before.frames} == {"python"}
            assert {f.kind for f in after.frames} == {"kernel"}


def test_time_in_a_state_of_a_later_version_is_kept_as_other() -> None:
    items = list(minute(seconds=1, stacks=100))
    frames = frames_of(recorded(items))
    lock, other = names.KERNEL_STATE_ID["lock"], names.KERNEL_STATE_ID["other"]
    frames[0][1]["kernel_states"][lock] = "quantum"
    before = next(i for i in items if isinstance(i, Totals))
    after = next(i for i in reading(file_of(frames)).items() if isinstance(i, Totals))
    assert not after.rows["state_ns"][:, lock].any()
    assert np.array_equal(after.rows["state_ns"][:, other],
                          before.rows["state_ns"][:, other] + before.rows["state_ns"][:, lock])


def test_columns_that_an_old_file_lacks_say_not_measured() -> None:
    frames = frames_of(recorded(minute(seconds=1, stacks=100)))
    for _kind, content in frames:
        for name in ("syscall", "fd", "waker", "sched_running_ns"):
            content.get("columns", {}).pop(name, None)
    read = list(reading(file_of(frames)).items())
    batch, totals = (next(i for i in read if isinstance(i, kind)) for kind in (Batch, Totals))
    assert set(batch.slices["syscall"]) == {-1} and set(batch.slices["fd"]) == {255}
    assert set(batch.slices["waker"]) == {0} and set(totals.rows["sched_running_ns"]) == {-1}


def test_columns_of_a_later_version_are_ignored() -> None:
    items = list(minute(seconds=1, stacks=100))
    frames = frames_of(recorded(items))
    for _kind, content in frames:
        if "columns" in content:
            content["columns"]["energy_uj"] = ["|u1", b"?"]
    assert [*map(comparable, reading(file_of(frames)).items())] == [*map(comparable, items)]


@pytest.mark.parametrize("items", [[END, HEADER], [HEADER, HEADER], [HEADER, END, END],
                                   [HEADER, Definitions([], [(0,)])]])
def test_a_stream_out_of_order_is_damage(items: list[Item]) -> None:
    with pytest.raises(RecordingError, match="is damaged in frame"):
        list(reading(recorded(items)).items())


def test_a_slice_of_an_undefined_stack_is_damage() -> None:
    rows = np.zeros(1, SLICE_DTYPE)
    rows["stack"] = 1
    with pytest.raises(RecordingError, match="names a stack that is not defined"):
        list(reading(recorded([HEADER, Batch(0, 1, rows), END])).items())


def test_the_lists_come_first() -> None:
    assert frames_of(recorded([]))[0] == (FrameType.NAMES, {
        "stages": list(names.STAGES), "kernel_states": list(names.KERNEL_STATES), "drops": list(names.DROPS),
        "fd_classes": list(names.FD_CLASSES), "frame_kinds": ["python", "native", "kernel"]})
