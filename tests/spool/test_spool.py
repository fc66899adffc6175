"""What is appended is read, in order, by whoever reads; caps are kept; one writer."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from spools import AGENT, TRITON, VLLM, Clock, delivered, drain, entries, entry, files, fill, gaps, lost, make, numbers

from excise.spool import Cursor, Entry, Gap, Spool, SpoolError
from excise.spool import spool as spool_module
from excise.summary import Summary, SummaryFile, read_summaries
from excise.workload import Workload


def test_what_is_appended_is_delivered_in_order_and_once(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    made = fill(spool, 20)
    cursor = Cursor(tmp_path / "s", "sink")
    assert drain(cursor) == made
    assert drain(cursor) == []
    made = fill(spool, 3)
    assert drain(cursor) == made


def test_each_append_is_in_the_file_when_it_returns(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    for count in range(1, 4):
        made = fill(spool, 1)
        (path,) = files(tmp_path / "s")
        assert len(list(read_summaries(path))) == count
        assert spool.state().bytes == path.stat().st_size
        assert spool.state().last_sequence == made[-1].sequence


def test_a_file_is_a_stream_of_summaries_for_who_knows_no_spool(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    spool.lose(*(spool.reserve(2)[i] for i in (0, 1)), "before")
    made = fill(spool, 3)
    spool.lose(*spool.reserve(1), *spool.reserve(1), "after")
    file = SummaryFile(files(tmp_path / "s")[0])
    assert list(file.summaries()) == [e.summary for e in made]
    assert not file.skipped and not file.truncated


def test_folder_and_files_are_ours_alone(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    fill(spool, 1)
    Cursor(tmp_path / "s", "sink")
    spool.close()
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()} == {0o600}


def test_appends_out_of_order_are_delivered_in_order(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    cursor = Cursor(tmp_path / "s", "sink")
    first, second, third, fourth = spool.reserve(4)
    assert spool.append(entry(third)) and spool.append(entry(second))
    assert cursor.next(9) == []
    assert spool.append(entry(first))
    assert drain(cursor) == [entry(first), entry(second), entry(third)]
    spool.lose(fourth, fourth, "gone")
    assert drain(cursor) == [Gap(fourth, fourth, "gone")]


def test_a_number_counts_once(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    number, other = spool.reserve(2)
    assert spool.append(entry(number)) and not spool.append(entry(number))
    assert not spool.append(entry(99)), "was not reserved"
    spool.lose(number, other, "gone")
    assert not spool.append(entry(other))
    assert delivered(tmp_path / "s") == [entry(number), Gap(other, other, "gone")]
    assert spool.state().lost == {"gone": 1} and spool.state().written == 1


def test_a_summary_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    fill(spool, 1)
    (number,) = spool.reserve(1)
    assert not spool.append(Entry(number, VLLM, Summary(lost={"x": -1})))
    assert not spool.append(Entry(*spool.reserve(1), VLLM, Summary(windows=1 << 70)))
    whole = entry(1).summary
    assert not spool.append(Entry(*spool.reserve(1), VLLM, replace(whole, frames={})))
    assert not spool.append(Entry(*spool.reserve(1), Workload("x" * 600, "unit"), whole))
    fill(spool, 1)
    items = delivered(tmp_path / "s")
    assert [e.sequence for e in entries(items)] == [1, 6] and lost(items) == {"unencodable": 4}


def test_files_are_of_one_process_each_and_end_at_their_size(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    made = fill(spool, 100)
    sizes = [path.stat().st_size for path in files(tmp_path / "s")]
    assert len(sizes) > 1 and all(70_000 <= size < 80_000 for size in sizes[:-1])
    spool.close()
    before = [path.read_bytes() for path in files(tmp_path / "s")]
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    made += fill(spool, 1)
    assert [path.read_bytes() for path in files(tmp_path / "s")][:len(before)] == before
    assert len(files(tmp_path / "s")) == len(before) + 1
    assert delivered(tmp_path / "s") == made
    for path in files(tmp_path / "s"):
        list(read_summaries(path))


def test_a_file_ends_after_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    for _ in range(60):
        clock.now += 120 * 10**9
        fill(spool, 1)
    assert len(files(tmp_path / "s")) == 2


def test_a_number_that_nobody_settles_is_forgotten_after_two_files(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    (leak,) = spool.reserve(1)
    cursor = Cursor(tmp_path / "s", "sink")
    made = fill(spool, 20)
    assert drain(cursor) == [] and cursor.lag() > 0
    made += fill(spool, 100)
    items = drain(cursor)
    assert items[0] == Gap(leak, leak, "forgotten") and items[1:] == made
    assert not spool.append(entry(leak))


def test_a_number_that_comes_when_it_is_just_given_up_counts_once(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    (leak,) = spool.reserve(1)
    while spool.state().bytes < 2 * 70_000:
        fill(spool, 1)
    assert not spool.append(entry(leak))
    items = delivered(tmp_path / "s")
    assert items[0] == Gap(leak, leak, "forgotten") and numbers(items) == list(range(1, len(items) + 1))
    assert spool.state().lost == {"forgotten": 1} and spool.state().written == len(items) - 1


def test_the_size_is_kept_within_a_file_and_what_a_sink_missed_is_counted(tmp_path: Path) -> None:
    most = 8 * 70_000
    spool = make(tmp_path / "s", most_bytes=most)
    cursor = Cursor(tmp_path / "s", "sink")
    made = fill(spool, 10)
    assert drain(cursor) == made
    made = fill(spool, 600)
    assert spool.state().bytes < most + 80_000
    assert spool.state().bytes == sum(path.stat().st_size for path in files(tmp_path / "s"))
    items, dropped = drain(cursor), spool.state().dropped
    assert numbers(items) == list(range(11, 611)), "nothing twice, nothing missing"
    assert lost(items).keys() == {"aged"}
    assert lost(items)["aged"] < dropped - 10, "a file that was being read is read to its end"
    kept = entries(delivered(tmp_path / "s", "late"))
    assert kept == made[-len(kept):] and spool.state().first_sequence == 611 - len(kept) == dropped + 1


def test_what_was_pruned_while_the_sink_was_down_is_counted_exactly(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    fill(spool, 10)
    assert len(delivered(tmp_path / "s")) == 10
    fill(spool, 600)
    dropped = spool.state().dropped
    items = delivered(tmp_path / "s")
    assert gaps(items) == [Gap(11, dropped, "aged")] and numbers(items) == list(range(11, 611))


def test_counts_survive_a_restart(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    fill(spool, 300)
    numbers_ = spool.reserve(4)
    spool.lose(numbers_[0], numbers_[-1], "gone")
    before = spool.state()
    spool.close()
    for _ in range(3):
        spool = make(tmp_path / "s", most_bytes=8 * 70_000)
        assert spool.state() == before
        spool.close()
    (tmp_path / "s" / "totals.json").write_text("{")
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    assert spool.state().lost == {"gone": 4}, "from the log, as far as it goes back"


def test_an_empty_spool_knows_that_it_is(tmp_path: Path) -> None:
    state = make(tmp_path / "s").state()
    assert (state.bytes, state.files, state.first_sequence, state.last_sequence) == (0, 0, None, None)
    assert state.oldest_wall_ns is None and state.lost == {} and state.written == 0


def test_two_writers_are_refused_by_name(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    with pytest.raises(SpoolError, match=rf"{tmp_path}/s is written by another agent \(pid {os.getpid()}\)"):
        make(tmp_path / "s")
    spool.close()
    make(tmp_path / "s").close()


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    for mode in (0o770, 0o707):
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s").chmod(mode)
        with pytest.raises(SpoolError, match=f"may be written by others \\(mode {mode:04o}\\): chmod 0700 it"):
            make(tmp_path / "s")
        with pytest.raises(SpoolError, match="may be written by others"):
            Cursor(tmp_path / "s", "sink")
    (tmp_path / "s").chmod(0o700)
    os.chown(tmp_path / "s", 12345, -1)
    with pytest.raises(SpoolError, match="belongs to another user \\(uid 12345"):
        make(tmp_path / "s")


def test_links_and_what_is_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(SpoolError, match="is a symbolic link or no folder"):
            make(tmp_path / name)
    with pytest.raises(SpoolError, match="no such"):
        make(tmp_path / "none" / "s")
    make(tmp_path / "s").close()
    for name in ("numbers", "lock"):
        (tmp_path / "s" / name).unlink()
        (tmp_path / "s" / name).symlink_to(tmp_path / "file")
        with pytest.raises(SpoolError, match="symbolic link"):
            make(tmp_path / "s")
        (tmp_path / "s" / name).unlink()
    os.mkfifo(tmp_path / "s" / "numbers")
    with pytest.raises(SpoolError, match="numbers is not a plain file"):
        make(tmp_path / "s")
    assert (tmp_path / "file").read_bytes() == b""


def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    (number,) = spool.reserve(1)
    spool.close()
    assert not spool.append(entry(number))
    spool.lose(number, number, "late")
    assert spool.prune() == 0
    spool.close()
    with pytest.raises(SpoolError):
        spool.reserve(1)
    assert make(tmp_path / "s").state().lost == {"crash": 1}


def test_reserving_is_refused_when_it_makes_no_sense(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    assert list(spool.reserve(0)) == []
    for count in (-1, 1 << 63):
        with pytest.raises(ValueError, match="cannot reserve"):
            spool.reserve(count)


def test_a_crash_loop_does_not_fill_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MOST_FILES", 5)
    for _ in range(12):
        spool = Spool(tmp_path / "s", AGENT, 10**8, 86_400)
        fill(spool, 1)
        spool.close()
    assert 5 <= len(files(tmp_path / "s")) <= 6
    assert entries(delivered(tmp_path / "s"))[-1].sequence == 12


def test_workloads_share_definitions(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    for number in spool.reserve(20):
        assert spool.append(entry(number, VLLM if number % 2 else TRITON))
    data = files(tmp_path / "s")[0].read_bytes()
    assert data.count(b"excise-summaries 1\n") == 1
    assert {e.workload for e in entries(delivered(tmp_path / "s"))} == {VLLM, TRITON}
