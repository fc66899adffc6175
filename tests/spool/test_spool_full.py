"""A disk that is full, or fails: what could not be written is counted, and it goes on when there is space again."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from spools import delivered, drain, entries, entry, files, fill, gaps, lost, make, numbers

from excise.spool import Cursor, Gap, Spool, SpoolError
from excise.spool import _file as file_module
from excise.summary import SummaryFile


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """192 KB of tmpfs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k,mode=0700", "excise-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def occupy(disk: Path) -> Path:
    """All that is left, to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    return ballast


def test_a_full_disk_is_counted_and_survived(small_disk: Path) -> None:
    spool = make(small_disk / "s")
    cursor = Cursor(small_disk / "s", "sink")
    made = fill(spool, 5)
    ballast = occupy(small_disk)
    given = list(spool.reserve(40))
    written = [number for number in given if spool.append(entry(number))]
    lost_now = len(given) - len(written)
    assert lost_now > 30 and spool.state().lost == {"disk_full": lost_now}
    for path in files(small_disk / "s"):
        file = SummaryFile(path)
        list(file.summaries())
        assert not file.truncated, "a write that failed half way is taken off again"
    assert entries(drain(cursor)) == made + [entry(number) for number in written]
    ballast.unlink()
    after = fill(spool, 3)
    items = drain(cursor)
    assert entries(items) == after
    assert lost(items) == {"disk_full": lost_now} == spool.state().lost
    assert numbers(drain(Cursor(small_disk / "s", "late"))) == list(range(1, 49))
    spool.close()
    spool = make(small_disk / "s")
    assert spool.state().lost == {"disk_full": lost_now} and spool.state().written == 8 + len(written)


def test_a_disk_that_is_full_from_the_start_is_survived_too(small_disk: Path) -> None:
    spool = make(small_disk / "s")
    spool.reserve(1)
    ballast = occupy(small_disk)
    for number in (1, *spool.reserve(3)):
        assert not spool.append(entry(number))
    spool.lose(*spool.reserve(1), 5, "target_gone")
    assert spool.state().lost == {"disk_full": 4, "target_gone": 1}
    ballast.unlink()
    spool.prune()
    assert delivered(small_disk / "s", "early") == [Gap(1, 4, "disk_full"), Gap(5, 5, "target_gone")]
    made = fill(spool, 1)
    assert delivered(small_disk / "s") == [Gap(1, 4, "disk_full"), Gap(5, 5, "target_gone"), *made]


def test_a_disk_that_is_full_for_weeks_does_not_fill_the_memory(small_disk: Path) -> None:
    spool = make(small_disk / "s")
    ballast = occupy(small_disk)
    for number in spool.reserve(3000):
        spool.lose(number, number, "odd" if number % 2 else "even")
    assert len(spool._gaps) <= 1000 and spool.state().lost == {"odd": 1500, "even": 1500}
    ballast.unlink()
    spool.prune()
    assert numbers(delivered(small_disk / "s")) == list(range(1, 3001))


def test_an_agent_killed_on_a_full_disk_still_counts_every_window(small_disk: Path) -> None:
    spool = make(small_disk / "s")
    fill(spool, 5)
    ballast = occupy(small_disk)
    for number in spool.reserve(20):
        spool.append(entry(number))
    written = spool.state().written
    spool._abandon()  # as when it is killed
    again = make(small_disk / "s")
    ballast.unlink()
    fill(again, 1)
    items = delivered(small_disk / "s")
    assert numbers(items) == list(range(1, 27)) and len(entries(items)) == written + 1
    assert lost(items).keys() == {"crash"} and again.state().lost == lost(items)


def test_a_new_spool_on_a_full_disk_says_so(small_disk: Path) -> None:
    (small_disk / "s").mkdir(mode=0o700)
    for name in ("lock", "numbers"):
        (small_disk / "s" / name).touch()
    occupy(small_disk)
    with pytest.raises(SpoolError, match=f"{small_disk}/s: no space left on device"):
        make(small_disk / "s")


@pytest.mark.parametrize(("failing", "reason"), [(errno.EIO, "io_error"), (errno.EDQUOT, "disk_full"),
                                                 (errno.EROFS, "io_error")])
@pytest.mark.parametrize("cut_fails", [False, True])
def test_a_write_that_stops_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int,
                                                   reason: str, cut_fails: bool) -> None:
    spool = make(tmp_path / "s")
    made = fill(spool, 2)
    real_write = os.write
    writes = iter([300, None])

    def broken(fd: int, content: Any) -> int:
        some = next(writes, None)
        if some is None:
            raise OSError(failing, os.strerror(failing))
        return real_write(fd, content[:some])

    def no_cut(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(file_module.os, "write", broken)
        if cut_fails:
            patch.setattr(file_module.os, "ftruncate", no_cut)
        for number in spool.reserve(2):
            assert not spool.append(entry(number))
    made += fill(spool, 2)
    items = delivered(tmp_path / "s")
    assert entries(items) == made and gaps(items) == [Gap(3, 4, reason)]
    assert len(files(tmp_path / "s")) == (3 if cut_fails else 1)


def test_numbers_that_the_disk_does_not_take_are_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(tmp_path / "s")
    fill(spool, 1)

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("excise.spool._slots.os.fdatasync", broken)
        with pytest.raises(SpoolError, match="numbers: cannot be written: input/output error"):
            spool.reserve(1)
    assert list(spool.reserve(1)) == [2]


def test_an_acknowledgement_that_cannot_be_written_is_counted_and_the_sink_goes_on(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool: Spool = make(tmp_path / "s")
    made = fill(spool, 4)
    cursor = Cursor(tmp_path / "s", "sink")
    assert cursor.next(2) == made[:2]
    cursor.ack(1)

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("excise.spool._slots.os.fdatasync", broken)
        cursor.ack(2)
    assert cursor.write_failures == 1 and cursor.next(9) == made[2:]
    cursor.ack(3)
    cursor.close()
    assert delivered(tmp_path / "s") == made[3:]
