"""A file may be cut off, damaged or made to hurt: the reader ends with items or with RecordingError."""

import io
import random
import struct
import tracemalloc
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_files import FIRST_LINE, comparable, file_of, frames_of, reading, recorded
from typical_recording import minute

from excise.recording import Recording, RecordingError, read_recording
from excise.recording._format import MAX_FRAME_BYTES, FrameType, checksum

GOOD = recorded(minute(seconds=2, rows=20, stacks=40))
ITEMS = [comparable(i) for i in reading(GOOD).items()]


def outcome(data: bytes) -> tuple[list[Any], str]:
    items: list[Any] = []
    try:
        for item in reading(data).items():
            items.append(item)
    except RecordingError as error:
        return items, str(error)
    return items, ""


def raw_frame(kind: int, payload: bytes) -> bytes:
    return struct.pack("<IIB", len(payload), checksum(kind, payload), kind) + payload


@pytest.mark.parametrize("data", [
    b"", b"\n", b"PK\3\4", b"\x7fELF" * 100, b"{}\n", bytes(4096), b"excise-recording", b"excise-recording 1",
    b"excise-recording 0\n", b"excise-recording 1.5\n", b"excise-recording -1\n",
    b"excise-recording 99999999999999999999\n"])
def test_another_file_is_not_a_recording(data: bytes) -> None:
    with pytest.raises(RecordingError, match="is not an Excise recording"):
        reading(data)


def test_a_newer_version_is_named() -> None:
    with pytest.raises(RecordingError, match=r"is from a newer version of Excise \(format 7"):
        read_recording(io.BytesIO(b"excise-recording 7\n"))


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Any) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        read_recording(tmp_path / "none.excise")
    with pytest.raises(RecordingError, match="Is a directory"):
        read_recording(tmp_path)


def test_a_file_cut_anywhere_gives_its_whole_items_and_says_so() -> None:
    for length in range(len(FIRST_LINE), len(GOOD), 7):
        recording = reading(GOOD[:length])
        items = [comparable(i) for i in recording.items()]
        assert items == ITEMS[:len(items)]
        assert recording.truncated
    whole = reading(GOOD)
    assert len(list(whole.items())) == len(ITEMS) and not whole.truncated


def test_damage_in_the_middle_keeps_what_came_before_and_names_the_place() -> None:
    at = len(GOOD) // 2
    items, error = outcome(GOOD[:at] + bytes((GOOD[at] ^ 0x55,)) + GOOD[at + 1:])
    assert 0 < len(items) < len(ITEMS)
    assert "is damaged in frame" in error and "its checksum does not match" in error


def test_unknown_frame_types_are_counted_and_skipped() -> None:
    recording = reading(GOOD[:len(FIRST_LINE)] + raw_frame(200, b"later") + GOOD[len(FIRST_LINE):])
    assert [comparable(i) for i in recording.items()] == ITEMS
    assert recording.skipped == {200: 1}


@pytest.mark.parametrize("plain", [bytes(64 << 20), b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
                                   b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000, b"\x80" * 1000, b"\xc1",
                                   b"\x81\xa1x" * 100_000, b"\x81\xd7\xff" + bytes(9), b"\x81\x01\x02"])
def test_bombs_allocate_little(plain: bytes) -> None:
    data = FIRST_LINE + raw_frame(0, zlib.compress(plain))
    tracemalloc.start()
    items, error = outcome(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert items == [] and "is damaged in frame 1" in error
    assert peak < 32 << 20


def test_a_claimed_length_is_not_allocated() -> None:
    items, error = outcome(FIRST_LINE + struct.pack("<IIB", 0xFFFFFFFF, 0, 1) + b"x")
    assert "it claims 4294967295 bytes" in error and not items
    recording = reading(FIRST_LINE + struct.pack("<IIB", MAX_FRAME_BYTES, 0, 1) + b"x")
    assert list(recording.items()) == [] and recording.truncated


def test_claimed_rows_are_not_allocated() -> None:
    frames = frames_of(GOOD)
    for content in (c for k, c in frames if k is FrameType.BATCH):
        content.update(rows=1 << 40, columns={})
    assert "its rows is malformed" in outcome(file_of(frames))[1]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_flipped_bytes_never_crash(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    outcome(bytes(damaged))


@given(st.lists(st.tuples(st.integers(0, 8), st.binary(max_size=60)), max_size=5))
@settings(max_examples=100, deadline=None)
def test_arbitrary_msgpack_under_good_checksums_never_crashes(frames: list[tuple[int, bytes]]) -> None:
    names = FIRST_LINE + GOOD[len(FIRST_LINE):][:9 + struct.unpack_from("<I", GOOD, len(FIRST_LINE))[0]]
    outcome(names + b"".join(raw_frame(kind, zlib.compress(plain)) for kind, plain in frames))


JUNK = st.sampled_from([
    None, True, -1, 0, 1, 255, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, -(1 << 63), 0.5, 1e308,
    float("nan"), float("inf"), "", "x", "\x1b[31m", b"", b"\xff" * 8, [], [1], {}, {"a": 1}, [[[]]],
    msgpack.Timestamp(1, 1),
    ["<u4", b""], ["<i8", b"\xff" * 160], ["<f8", bytes(160)], ["O", bytes(160)]])


def nodes(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(p for key, value in list(inner)[:40] for p in nodes(value, (*path, key)))]


def mutate(content: dict[str, Any], path: tuple[Any, ...], junk: Any) -> None:
    *way, last = path
    at: Any = content
    for key in way:
        at = at[key]
    if junk == "x":
        del at[last]
    else:
        at[last] = junk


@given(seed=st.integers(0, 1 << 32), junk=JUNK)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_field_replaced_under_good_checksums_never_crashes(seed: int, junk: Any) -> None:
    frames = frames_of(GOOD)
    _kind, content = random.Random(seed).choice(frames)
    path = random.Random(seed + 1).choice(nodes(content)[1:])
    mutate(content, path, junk)
    outcome(file_of(frames))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_frames_in_any_order_never_crash(data: st.DataObject) -> None:
    frames = frames_of(GOOD)
    picked = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=12))
    outcome(file_of([frames[i] for i in picked]))


def test_a_stream_that_breaks_is_a_sentence() -> None:
    class Broken(io.BytesIO):
        def read(self, _count: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    recording = Recording(Broken(GOOD))
    with pytest.raises(RecordingError, match="Input/output error"):
        list(recording.items())
