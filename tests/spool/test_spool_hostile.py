"""Files that are damaged, made up or not files: what can be read is delivered in order and once, and goes on."""

import os
import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spools import VLLM, delivered, drain, entries, entry, files, fill, gaps, lost, make, numbers
from typical_summary import window

from excise.framing import FRAME, frame_bytes
from excise.spool import Cursor, Entry, Gap, history_workloads, read_history
from excise.spool import _order as order_module
from excise.spool._folder import segment_name
from excise.spool._slots import Slots
from excise.spool.cursor import CURSOR_MAGIC
from excise.summary.schema import GAP_KEYS, SHIPMENT_KEYS

MAGIC = b"excise-summaries 1\n"
UNHURRIED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


class Good(NamedTuple):
    data: bytes
    starts: list[int]  # of its frames

    def __repr__(self) -> str:
        return "Good"  # Hypothesis prints it


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    """A file of ten entries."""
    folder = tmp_path_factory.mktemp("good") / "s"
    spool = make(folder)
    fill(spool, 10)
    spool.close()
    (path,) = files(folder)
    return Good(path.read_bytes(), frames_at(path.read_bytes()))


def frames_at(data: bytes) -> list[int]:
    at, out = len(MAGIC), []
    while at < len(data):
        out.append(at)
        at += FRAME.size + FRAME.unpack_from(data, at)[0]
    return out


def spool_of(folder: Path, *contents: bytes) -> Path:
    """With these files, of which the last is not the one that is written."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for number, content in enumerate(contents, 1):
        (folder / segment_name(number)).write_bytes(content)
    return folder


def sound(folder: Path) -> list[Any]:
    """Whatever is in the folder: numbers ascend, entries are what they were; the writer goes on behind them."""
    cursor = Cursor(folder, "sink")
    items = drain(cursor)
    got = [n for item in items for n in ((item.first, item.last) if isinstance(item, Gap) else (item.sequence,) * 2)]
    assert all(a <= b for a, b in pairwise(got)) and len({i.first if isinstance(i, Gap) else i.sequence
                                                         for i in items}) == len(items)
    assert all(e.summary == entry(e.sequence).summary for e in entries(items) if e.sequence <= 10)
    assert cursor.lag() >= 0
    history_workloads(folder)
    list(read_history(folder))
    spool = make(folder)
    made = fill(spool, 2)
    spool.state()
    after = drain(cursor)
    assert entries(after)[-2:] == made
    cursor.close()
    spool.close()
    return items


def test_a_flipped_bit_costs_at_most_the_frame_that_it_is_in(good: Good, tmp_path: Path) -> None:
    """But in what a segment defines, which costs the summaries that need it."""
    data, starts = good
    kinds = {at: data[at + 8] for at in starts}
    for at, kind in kinds.items():
        for offset in (0, 3, 8, 9 + FRAME.unpack_from(data, at)[0] - 1):
            broken = bytearray(data)
            broken[at + offset] ^= 0x41
            torn = spool_of(tmp_path / "s", bytes(broken), data[:0])
            items = delivered(torn)
            sequence = 1 + sum(k == 3 for a, k in kinds.items() if a < at)
            missing = [sequence] if kind in (3, 4) else list(range(sequence, 11))
            assert numbers(entries(items)) == [n for n in range(1, 11) if n not in missing]
            # a sink begins with the first that can be read; of the last number nothing else tells
            assert lost(items) == ({} if missing in ([1], [10]) else {"damaged": len(missing)}), (at, kind, offset)


def test_what_is_damaged_at_the_end_comes_to_light_with_the_next_entry(good: Good, tmp_path: Path) -> None:
    data, starts = good
    folder = spool_of(tmp_path / "s", data[:starts[-1] + 20] + b"\0" * (len(data) - starts[-1] - 20))
    assert [e.sequence for e in entries(delivered(folder))] == list(range(1, 10))
    spool = make(folder)
    made = fill(spool, 1)
    assert delivered(folder) == made and made[0].sequence == 10, "its number was not known to be given out"


def test_a_zeroed_block_costs_the_frames_that_it_touches(good: Good, tmp_path: Path) -> None:
    data, starts = good
    third = [at for at in starts if data[at + 8] == 4][3]
    broken = data[:third + 5] + bytes(1024) + data[third + 5 + 1024:]
    items = delivered(spool_of(tmp_path / "s", broken))
    assert numbers(items) == list(range(1, 11)) and entries(items)[0].sequence == 1
    assert entries(items)[-1].sequence == 10 and 1 <= lost(items)["damaged"] <= 3


def test_a_sink_that_follows_passes_over_damage_in_the_file_that_is_written(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    cursor = Cursor(tmp_path / "s", "sink")
    fill(spool, 2)
    (path,) = files(tmp_path / "s")
    data = path.read_bytes()
    at = [a for a in frames_at(data) if data[a + 8] == 3][-1]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<I", 4_000_000))  # reaches far beyond the end
    assert [e.sequence for e in entries(drain(cursor))] == [1]
    made = fill(spool, 2)
    items = drain(cursor)
    assert items[0] == Gap(2, 2, "damaged") and items[1:] == made


def test_a_lost_definition_is_never_taken_for_another(tmp_path: Path) -> None:
    """Two segments in one file, and the damage reaches from the one into the other."""
    folder = tmp_path / "s"
    data = []
    for number in range(2):
        spool = make(tmp_path / str(number))
        fill(spool, 3)
        data.append(files(tmp_path / str(number))[0].read_bytes())
        spool.close()
    first, second = data
    ends = frames_at(second)
    definitions = [a for a in ends if second[a + 8] == 2]
    for cut in (ends[0], ends[1], ends[2], ends[3], definitions[-1] + 1):
        broken = first[:-7] + bytes((0x55,)) * 7 + second[cut:]
        spool_of(folder, broken)
        for found in entries(delivered(folder)):
            assert found == entry(found.sequence)


def test_damaged_definitions_do_not_lend_their_numbers_to_others(tmp_path: Path) -> None:
    """A name that was defined in the frame that is damaged is used again after the next frame of definitions."""
    spool = make(tmp_path / "s")
    same = window(1, 1, stacks=2)
    made = [Entry(number, VLLM, replace(same, lost={**same.lost, reason: 1}))
            for number, reason in zip(spool.reserve(4), ("first", "second", "third", "second"), strict=True)]
    for one in made:
        assert spool.append(one)
    (path,) = files(tmp_path / "s")
    data = bytearray(path.read_bytes())
    second = [at for at in frames_at(bytes(data)) if data[at + 8] == 2][1]
    data[second + 20] ^= 1
    path.write_bytes(data)
    assert delivered(tmp_path / "s") == [made[0], *(Gap(n, n, "damaged") for n in (2, 3, 4))]
    assert list(read_history(tmp_path / "s")) == made[:1]


@pytest.mark.parametrize("content", [
    b"", b"x", MAGIC[:7], MAGIC, b"excise-summaries 2\n" + bytes(100), bytes(100_000), b"excise-recording 1\n",
    MAGIC + struct.pack("<IIB", 0xFFFFFFFF, 0, 3), MAGIC + struct.pack("<IIB", 4_000_000, 0, 3) * 20_000,
    MAGIC * 5000, (MAGIC + b"\0") * 5000, frame_bytes(4, b""), frame_bytes(5, b"x") * 1000, frame_bytes(77, b"z") * 9])
def test_files_of_nothing_are_passed_over(good: Good, tmp_path: Path, content: bytes) -> None:
    data = good.data
    items = sound(spool_of(tmp_path / "s", content, data, content))
    assert [e.sequence for e in entries(items)] == list(range(1, 11)) and not gaps(items)


def test_a_sparse_giant_is_not_read_to_its_end(good: Good, tmp_path: Path) -> None:
    folder = spool_of(tmp_path / "s", b"", good.data)
    os.truncate(folder / segment_name(1), 1 << 40)
    tracemalloc.start()
    assert len(entries(delivered(folder))) == 10
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_links_fifos_folders_and_other_peoples_files_are_not_read(good: Good, tmp_path: Path) -> None:
    data = good.data
    folder = spool_of(tmp_path / "s", b"", b"", b"", b"", data)
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    for number in range(1, 5):
        (folder / segment_name(number)).unlink()
    (folder / segment_name(1)).symlink_to(outside)
    os.mkfifo(folder / segment_name(2))
    (folder / segment_name(3)).mkdir()
    (folder / segment_name(4)).write_bytes(data)
    os.chown(folder / segment_name(4), 12345, 12345)
    os.mkfifo(folder / segment_name(77))
    (folder / "readme.txt").write_text("hello")
    (folder / "1.summary").write_text("hello")
    items = delivered(folder)
    assert [e.sequence for e in entries(items)] == list(range(1, 11))
    assert len(list(read_history(folder))) == 10
    spool = make(folder, most_bytes=1)
    made = fill(spool, 1)
    assert files(folder)[-1].name == segment_name(78)
    assert entries(delivered(folder)) == made
    assert spool.state().files == 1 and outside.read_bytes() == b"secret"
    assert (folder / segment_name(1)).is_symlink() and (folder / segment_name(4)).exists()


@UNHURRIED
@given(st.data())
def test_any_damage_is_survived(good: Good, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    content = bytearray(good.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.integers(0, 3)):
            case 0:
                content[at:at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case 1:
                del content[at:at + data.draw(st.integers(1, 3000))]
            case 2:
                content[at:at] = content[:data.draw(st.integers(1, 3000))]
            case _:
                content[at:at] = data.draw(st.binary(max_size=40))
    cut = data.draw(st.integers(0, len(content)))
    sound(spool_of(tmp_path_factory.getbasetemp() / "fuzz", bytes(content[:cut]), bytes(content[cut:])))


VALUES = st.one_of(st.integers(-1, 14), st.integers(0, 1 << 62), st.none(), st.text(max_size=5), st.binary(max_size=4),
                   st.sampled_from(["unit", "pod", "vllm.service", "x" * 600, (1 << 64) - 1, -(1 << 63), 1.5, True]))
SHIPMENTS = st.tuples(st.just(4), st.dictionaries(st.sampled_from([*SHIPMENT_KEYS.values(), 90]), VALUES, max_size=9))
GAPS = st.tuples(st.just(5), st.dictionaries(st.sampled_from([*GAP_KEYS.values(), 90]), VALUES, max_size=7))
LIKELY = st.builds(lambda first, more, settled: (5, {1: first, 2: first + more, 3: "x", 5: settled}),
                   st.integers(1, 12), st.integers(0, 5), st.integers(0, 14))


def raw(kind: int, content: object) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame_bytes(kind, stream.compress(msgpack.packb(content)) + stream.flush())


@UNHURRIED
@given(st.lists(st.one_of(SHIPMENTS, GAPS, LIKELY), max_size=12), st.integers(0, 40))
def test_envelopes_that_are_made_up_are_survived(good: Good, tmp_path_factory: pytest.TempPathFactory,
                                                 made: list[tuple[int, Any]], at: int) -> None:
    """With good checksums. They may hide numbers, not stop what comes after them."""
    data, starts = good
    cut = [*starts, len(data)][min(at, len(starts))]
    between = b"".join(raw(kind, content) for kind, content in made)
    folder = spool_of(tmp_path_factory.getbasetemp() / "fuzz", data[:cut] + between + data[cut:])
    cursor = Cursor(folder, "sink")
    got = [(i.first, i.last) if isinstance(i, Gap) else (i.sequence, i.sequence) for i in drain(cursor)]
    assert all(a[1] < b[0] for a, b in pairwise(got)) and all(first <= last for first, last in got)
    cursor.close()
    spool = make(folder)
    if spool._reserved < 1 << 60:
        made_now = fill(spool, 1)
        assert entries(delivered(folder))[-1:] == made_now
    spool.close()


def test_random_noise_is_survived(good: Good, tmp_path: Path) -> None:
    rng = random.Random(7)
    for size in (10, 1000, 100_000, 3_000_000):
        noise = rng.randbytes(size)
        around = good.data[:3000] + noise + good.data[3000:]
        items = sound(spool_of(tmp_path / "s", noise, MAGIC + noise, good.data, around))
        assert [e.sequence for e in entries(items)] == list(range(1, 11))


def test_a_log_that_keeps_a_sink_waiting_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "_MOST_HELD", 50)
    content = MAGIC + b"".join(raw(5, {1: n, 2: n, 3: "x", 5: 0}) for n in range(3, 203))
    folder = spool_of(tmp_path / "s", MAGIC + raw(5, {1: 1, 2: 1, 3: "x", 5: 1}) + content)
    items = delivered(folder)
    assert items[1] == Gap(2, 2, "damaged") and numbers(items) == list(range(1, 203))


@pytest.mark.parametrize("damage", [b"", b"\0" * 8192, b"\xff" * 8192, b"excursor" * 1024, b"x"])
def test_a_damaged_cursor_begins_again_with_the_oldest_and_says_so(good: Good, tmp_path: Path, damage: bytes) -> None:
    folder = spool_of(tmp_path / "s", good.data)
    assert len(delivered(folder)) == 10
    (folder / "sink.cursor").write_bytes(damage)
    cursor = Cursor(folder, "sink")
    assert ("sink.cursor was damaged: this sink begins again with the oldest" in cursor.note) == bool(damage)
    assert len(drain(cursor)) == 10 and drain(cursor) == []


def test_a_torn_cursor_is_at_the_place_before(good: Good, tmp_path: Path) -> None:
    folder = spool_of(tmp_path / "s", good.data)
    cursor = Cursor(folder, "sink")
    assert len(cursor.next(4)) == 4
    cursor.ack(2)
    cursor.ack(4)
    cursor.close()
    path = folder / "sink.cursor"
    data = path.read_bytes()
    fd = os.open(path, os.O_RDWR)
    slots = Slots(fd, CURSOR_MAGIC)
    assert slots.value == (4, 1)
    os.pwrite(fd, b"\x55", 4096 * slots._slot + 20)
    os.close(fd)
    assert [e.sequence for e in entries(delivered(folder))] == list(range(3, 11))
    assert len(data) == 8192


def test_a_cursor_from_another_life_does_not_hide_new_entries(good: Good, tmp_path: Path) -> None:
    """The log and the numbers were removed, the cursor was not: new numbers go on behind it."""
    folder = spool_of(tmp_path / "s", good.data)
    assert len(delivered(folder)) == 10
    for path in (*files(folder), folder / "numbers"):
        path.unlink(missing_ok=True)
    made = fill(make(folder), 2)
    assert entries(delivered(folder)) == made


@pytest.mark.parametrize("content", [
    b"", b"[]", b"{}", b"nonsense", b"\xff" * 99, b'{"lost": 3, "files": {}}', b'{"lost": {}, "files": {"x": []}}',
    b'{"lost": {"x": -1}, "files": {}}', b'{"lost": {}, "files": {"1": [1, 2, 3]}}', b"[" * 100_000,
    b'{"lost": {}, "files": {"1": ["a", 1, 1, 1, 1, 1]}}', b'{"lost": {}, "files": {}, "settled": 1e400}',
    b'{"lost": {}, "files": {}, "more": 1}', b'{"lost": {}, "files": [1], "settled": true}'])
def test_damaged_totals_are_made_again_from_the_log(good: Good, tmp_path: Path, content: bytes) -> None:
    folder = spool_of(tmp_path / "s", good.data)
    (folder / "totals.json").write_bytes(content)
    assert len(list(read_history(folder, since_ns=1))) == 10
    spool = make(folder)
    assert spool.state().written == 10 and list(spool.reserve(1)) == [11]
