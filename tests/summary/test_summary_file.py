"""Streams: segments that decode alone, files that end anywhere, sizes that are kept."""

import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from summary_strategies import UNHURRIED, summaries
from typical_summary import window, windows

from excise.summary import (
    SegmentEncoder,
    Summary,
    SummaryError,
    SummaryFile,
    SummaryWriter,
    _definitions,
    compact,
    decode_segments,
    encode_segment,
    fit,
    is_summaries,
    merge,
    read_summaries,
)
from excise.summary.segment import steady_bytes

MAGIC = b"excise-summaries 1\n"


@UNHURRIED
@given(st.lists(summaries(), max_size=4), st.integers(1, 3))
def test_what_is_written_is_read(made: list[Summary], per_segment: int) -> None:
    encoder = SegmentEncoder(per_segment)
    data = MAGIC[:0].join([encoder.encode(summary) for summary in made])
    if made:
        assert decode_segments(data) == made
        assert data.count(MAGIC) >= -(-len(made) // per_segment)


def test_each_segment_decodes_alone_and_in_any_order() -> None:
    made = list(windows(6, stacks=10))
    encoder = SegmentEncoder(2)
    data = b"".join([encoder.encode(summary) for summary in made])
    parts = [MAGIC + part for part in data.split(MAGIC)[1:]]
    assert len(parts) == 3
    assert [decode_segments(part) for part in parts] == [made[:2], made[2:4], made[4:]]
    assert decode_segments(parts[2] + parts[0]) == made[4:] + made[:2]


def test_a_segment_ends_at_its_bytes_too() -> None:
    encoder = SegmentEncoder(100, most_bytes=3000)
    data = b"".join([encoder.encode(summary) for summary in windows(4)])
    assert data.count(MAGIC) == 4


def test_writing_again_what_was_read_gives_the_same_bytes() -> None:
    data = encode_segment(windows(3, processes=2))
    assert encode_segment(decode_segments(data)) == data


def test_a_summary_that_does_not_fit_leaves_the_stream_whole() -> None:
    encoder, good = SegmentEncoder(), window(1, 0, stacks=2)
    data = encoder.encode(good)
    with pytest.raises(ValueError, match="out of range"):
        encoder.encode(merge(good, Summary(steps={"x": 1 << 128})))
    assert decode_segments(data + encoder.encode(good)) == [good, good]


def test_windows_fit_a_kilobyte_without_stacks_and_four_with_fifty() -> None:
    """At most 1 KB per process and window without stacks, 4 KB with 50: frames as written, definitions sent."""
    for processes in (1, 4):
        bare, full = SegmentEncoder(), SegmentEncoder()
        for index, summary in enumerate(windows(12, processes=processes)):
            assert len(summary.stacks) == 50 * processes
            without, with_ = fit(compact(summary, 0), 1024 * processes), fit(summary, 4096 * processes)
            assert without.cells == with_.cells == summary.cells and with_.stacks == summary.stacks
            assert {h.scale for h in with_.lengths.values()} == {4}
            sizes = len(bare.encode(without)), len(full.encode(with_))
            if index:
                assert sizes[0] <= 1024 * processes and sizes[1] <= 4096 * processes


def test_fitting_only_widens_buckets() -> None:
    summary = window(1, 0)
    small = fit(summary, 1)
    assert {h.scale for h in small.lengths.values()} == {0}
    assert all(small.lengths[k] == h.lowered(0) for k, h in summary.lengths.items())
    assert fit(summary, steady_bytes(summary) + 24) == summary


def test_a_file_cut_anywhere_gives_its_whole_summaries_and_says_so() -> None:
    made = list(windows(3, stacks=3))
    encoder, data, ends = SegmentEncoder(2), b"", []
    for summary in made:
        data += encoder.encode(summary)
        ends.append(len(data))
    edges = [end + step for end in (*ends, data.index(MAGIC, 1)) for step in range(-3, 25)]
    for length in (*range(len(MAGIC), len(data), 31), *(edge for edge in edges if edge <= len(data))):
        file = SummaryFile(io.BytesIO(data[:length]))
        assert list(file.summaries()) == made[:sum(end <= length for end in ends)]
    cut = SummaryFile(io.BytesIO(data[:-1]))
    assert len(list(cut.summaries())) == 2 and cut.truncated
    whole = SummaryFile(io.BytesIO(data))
    assert len(list(whole.summaries())) == 3 and not whole.truncated
    with pytest.raises(SummaryError, match="is cut off"):
        decode_segments(data[:-1])


def test_each_summary_is_on_the_disk_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "s.bin"
    with SummaryWriter(path, segment_summaries=2) as writer:
        for count, summary in enumerate(windows(3, stacks=2), 1):
            writer.write(summary)
            assert len(list(read_summaries(path))) == count
            assert path.stat().st_size == writer.bytes_written
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and is_summaries(path)


def test_a_writer_is_as_careful_as_a_recordings(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SummaryError, match="symbolic link"):
        SummaryWriter(tmp_path / "link")
    with pytest.raises(SummaryError, match="not a regular file: a stream of summaries is written"):
        SummaryWriter("/dev/null")
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = SummaryWriter(fd)
    with pytest.raises(SummaryError, match="no space left on the device; the stream of summaries ends here"):
        writer.write(window(1, 0))
    writer.write(window(1, 0))  # said once
    assert writer.failed
    os.close(fd)


def test_what_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "s.bin"
    with SummaryWriter(path) as writer:
        writer.write(window(1, 0, stacks=1))
        with pytest.raises(SummaryError, match=r"s\.bin: a summary cannot be written"):
            writer.write(Summary(lost={"x": -1}))
        writer.write(window(1, 1, stacks=1))
    assert len(list(read_summaries(path))) == 1


def test_other_files_are_not_summaries(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"excise-recording 1\n")
    assert not is_summaries(tmp_path / "a") and not is_summaries(tmp_path / "none") and not is_summaries(tmp_path)
    with pytest.raises(SummaryError, match="is no file of Excise's summaries"):
        read_summaries(tmp_path / "a")
    with pytest.raises(SummaryError, match=r"newer version of Excise \(format 7"):
        read_summaries(io.BytesIO(b"excise-summaries 7\n"))


def test_a_segment_ends_before_it_defines_more_than_a_reader_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_definitions, "MAX_DEFINED", 2000)
    encoder, made = SegmentEncoder(), [window(seed, 0) for seed in range(6)]
    data = b"".join([encoder.encode(summary) for summary in made])
    assert decode_segments(data) == made and 2 <= data.count(MAGIC) < 6
    monkeypatch.setattr(_definitions, "MAX_DEFINED", 100)
    with pytest.raises(ValueError, match="compact it"):
        encoder.encode(window(9, 0))
