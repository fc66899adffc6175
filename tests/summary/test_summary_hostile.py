"""Bytes that are damaged, or made to hurt: summaries or one clear error, never a crash and never much memory."""

import io
import math
import random
import struct
import tracemalloc
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from summary_strategies import UNHURRIED, summaries
from typical_summary import windows

from excise.exporters.dump_summary import summary_json, summary_lines
from excise.framing import FRAME, MAX_FRAME_BYTES, frame_bytes
from excise.summary import SegmentEncoder, Summary, SummaryError, SummaryFile, encode_segment, merge
from excise.summary.schema import DEFINITION_KEYS, SUMMARY_KEYS

MAGIC = b"excise-summaries 1\n"
ENCODER = SegmentEncoder(2)
GOOD = b"".join([ENCODER.encode(summary) for summary in windows(3, stacks=4)])
MADE = list(windows(3, stacks=4))
Frames = list[tuple[int, Any]]


def outcome(data: bytes) -> tuple[list[Summary], str]:
    out: list[Summary] = []
    try:
        for summary in SummaryFile(io.BytesIO(data)).summaries():
            out.append(summary)
    except SummaryError as error:
        return out, str(error)
    return out, ""


def sound(data: bytes) -> None:
    """Whatever is read is valid, and every path behind it bears it."""
    for summary in outcome(data)[0]:
        summary.check()
        assert merge(summary, summary).total_ns() == 2 * summary.total_ns()
        list(summary_lines(summary))
        summary_json(summary)


def frames_of(data: bytes) -> Frames:
    """Of one segment, contents unpacked."""
    at, out = len(MAGIC), []
    while at < len(data):
        length, _, kind = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size:at + FRAME.size + length]
        out.append((kind, msgpack.unpackb(zlib.decompress(payload, -15), strict_map_key=False)))
        at += FRAME.size + length
    return out


def raw(kind: int, plain: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame_bytes(kind, stream.compress(plain) + stream.flush())


def segment(frames: Frames) -> bytes:
    return MAGIC + b"".join(raw(kind, msgpack.packb(content)) for kind, content in frames)


ONE = frames_of(encode_segment(MADE[:1]))
HEAD, DEFINED, BODY = (content for _, content in ONE)


def changed(kind: int, key: int, value: object) -> bytes:
    return segment([(k, {**content, key: value} if k == kind else content) for k, content in ONE])


def test_damage_names_the_file_and_the_byte() -> None:
    second = GOOD.index(MAGIC, 1)
    at = second - 10
    out, error = outcome(GOOD[:at] + bytes((GOOD[at] ^ 0x55,)) + GOOD[at + 1:])
    assert out == MADE[:1]
    assert error.startswith("the stream is damaged at byte ") and "a frame's checksum does not match" in error
    out, error = outcome(GOOD[:second] + b"excise-summaries x\n" + GOOD[second + len(MAGIC):])
    assert out == MADE[:2] and error == f"the stream is damaged at byte {second}: a segment's first line is malformed"


def test_a_frame_without_a_head_is_damage() -> None:
    assert "its segment has no head" in outcome(segment(ONE[1:]))[1]


def test_unknown_keys_are_ignored_at_every_level() -> None:
    future = {"deep": [{"a": [1, -2, 3.5, None, True, b"x"]}], 7: {}}
    head, defined, body = ({**content, 40: future, 1000: math.nan, "word": future} for content in (HEAD, DEFINED, BODY))
    body.pop("word"), head.pop("word"), defined.pop("word")
    unknown_number = b"\x63\x05"  # KPI 99
    for section in ("kpis", "quality", "cost"):
        body[SUMMARY_KEYS[section]] += unknown_number
    data = segment([(9, {}), (1, head), (77, future), (2, defined), (3, body), (200, {"x": 1})])
    file = SummaryFile(io.BytesIO(data))
    assert list(file.summaries()) == MADE[:1]
    assert file.skipped == {9: 1, 77: 1, 200: 1}


WRONG: list[object] = [None, True, -1, 1 << 63, 1.5, math.nan, math.inf, "text", b"\x80", b"\x80" * 20 + b"\1",
                       b"\xff" * 18 + b"\x7f", bytes(100_000), [], [[]], {}, [None], ["x" * 3000], ["a", "a"], [""]]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_wrong_types_and_sizes_in_every_key(value: object) -> None:
    for kind, content in ONE:
        for key in content:
            data = changed(kind, key, value)
            out, error = outcome(data)
            assert error.startswith("the stream is damaged at byte ") or len(out) == 1
            sound(data)


@pytest.mark.parametrize("key", SUMMARY_KEYS.values())
def test_columns_too_short_too_long_and_beyond_range(key: int) -> None:
    if key == SUMMARY_KEYS["windows"]:
        return
    column = BODY.get(key, b"")
    huge = b"\xff" * 18 + b"\x03"
    for value in (column[:-1], column + b"\0", column + huge, huge + column, b"\x7f" * len(column)):
        sound(changed(3, key, value))
    assert column == b"" or outcome(changed(3, key, column + b"\0"))[1]


@pytest.mark.parametrize("plain", [
    bytes(64 << 20), b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000,
    b"\x80" * 1000, b"\xc1", b"\x81\xa1x" * 100_000, b"\x81\xd7\xff" + bytes(9), b"\x82\x01\x02\x01\x02",
    b"\x81\x05\x82\x01\x02\x01\x03", b"\x81\x90\x01", b"\x81\xcb\x3f\xf0\0\0\0\0\0\0\1", b"\x81\xc3\1", b"\x90", b"",
    b"\x81\x01\xa1\xff"])
def test_broken_payloads_are_named_and_allocate_little(plain: bytes) -> None:
    for kind in (1, 2, 3):
        data = segment(ONE[:kind - 1]) + raw(kind, plain)
        tracemalloc.start()
        out, error = outcome(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert out == [] and "is damaged at byte" in error
        assert peak < 32 << 20


def bombs() -> list[bytes]:
    """Within the limits of a frame, as costly as we know to make it."""
    size, d, s = 4 << 20, DEFINITION_KEYS, SUMMARY_KEYS
    strings = raw(2, msgpack.packb({d["strings"]: [""] * (size - 100)}))
    columns = ("frame_kinds", "frame_files", "frame_names", "frame_lines")
    frames = raw(2, msgpack.packb({d[name]: bytes(size // 4 - 100) for name in columns}))
    stacks = raw(2, msgpack.packb({d["stack_lengths"]: bytes(size - 100)}))
    long = raw(2, msgpack.packb({d["stack_lengths"]: b"\x80\x80\x40", d["stack_frames"]: bytes(1 << 20)}))
    wide = raw(3, msgpack.packb({**BODY, s["bucket_counts"]: b"\x80\x80\x80\x80\x01" * (size // 5 - 4000)}))
    small = raw(3, msgpack.packb({**BODY, s["cells"]: bytes(size - 9000)}))
    texts = b"".join(raw(2, msgpack.packb({d["strings"]: ["y" * 2000] * 2000})) for _ in range(20))
    return [strings, frames, stacks, long * 2, wide, small, texts]


@pytest.mark.parametrize("bomb", bombs(), ids=["strings", "frames", "stacks", "long", "wide", "small", "texts"])
def test_bombs_within_the_limits_stay_bounded(bomb: bytes) -> None:
    assert len(bomb) < 1 << 19
    data = segment(ONE[:2]) + bomb
    tracemalloc.start()
    _, error = outcome(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "is damaged at byte" in error
    assert peak < 96 << 20


def test_a_claimed_length_is_not_allocated() -> None:
    assert "claims 4294967295 bytes" in outcome(MAGIC + struct.pack("<IIB", 0xFFFFFFFF, 0, 1) + b"x")[1]
    file = SummaryFile(io.BytesIO(MAGIC + struct.pack("<IIB", MAX_FRAME_BYTES, 0, 1) + b"x"))
    assert list(file.summaries()) == [] and file.truncated


@UNHURRIED
@given(st.data())
def test_changed_columns_of_real_files_never_crash(data: Any) -> None:
    """Beneath the checksum: bytes of a column changed, cut out or put in."""
    kind, content = data.draw(st.sampled_from(ONE))
    key = data.draw(st.sampled_from([k for k, v in content.items() if isinstance(v, bytes)] or list(content)))
    value = content[key]
    if isinstance(value, bytes):
        at = data.draw(st.integers(0, len(value)))
        value = value[:at] + data.draw(st.binary(max_size=20)) + value[at + data.draw(st.integers(0, 3)):]
    sound(changed(kind, key, value))


@UNHURRIED
@given(summaries(), st.data())
def test_changed_contents_of_any_file_never_crash(summary: Summary, data: Any) -> None:
    frames = frames_of(encode_segment([summary]))
    at = data.draw(st.integers(0, len(frames) - 1))
    kind, content = frames[at]
    key = data.draw(st.sampled_from(sorted(content)))
    value = data.draw(st.one_of(st.binary(max_size=12), st.integers(-5, 1 << 63),
                                st.lists(st.text(max_size=3), max_size=4),
                                st.lists(st.integers(0, 6), max_size=30).map(bytes)))
    frames[at] = kind, {**content, key: value}
    sound(segment(frames))


@UNHURRIED
@given(st.binary(max_size=400))
def test_random_payloads_never_crash(plain: bytes) -> None:
    for kind in (1, 2, 3):
        sound(segment(ONE[:kind - 1]) + raw(kind, plain))
        sound(segment(ONE[:kind - 1]) + frame_bytes(kind, plain))


def test_random_damage_never_crashes() -> None:
    """A bounded loop of what a fuzzer does: flips, cuts, copies, noise; the seed is fixed."""
    rng = random.Random(20_26)
    for _ in range(600):
        data = bytearray(GOOD[:rng.randrange(1, len(GOOD))] if rng.random() < 0.3 else GOOD)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(4):
                case 0:
                    data[at:at + 1] = bytes((rng.randrange(256),))
                case 1:
                    del data[at:at + rng.randrange(1, 50)]
                case 2:
                    data[at:at] = data[:rng.randrange(100)]
                case _:
                    data[at:at] = rng.randbytes(rng.randrange(30))
        sound(bytes(data))
        sound(MAGIC + rng.randbytes(rng.randrange(200)))
