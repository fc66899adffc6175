"""kill -9 at any moment, and files that end anywhere: every number that was given out comes to something, once."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from spools import Clock, delivered, drain, entries, entry, files, fill, gaps, lost, make, numbers, summary

from excise.spool import Cursor, Gap, Item, history_workloads
from excise.spool import spool as spool_module

MOST_BYTES = 100_000_000


def child(work: Callable[[], None]) -> int:
    """Forks: as a process that starts, without the seconds."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(1)


def write_under_load(folder: Path, journal: Path, seed: int) -> None:
    """Writes down in the journal what it was given and what it was told is written."""
    rng = random.Random(seed)
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    spool = make(folder)
    while True:
        given = list(spool.reserve(rng.randint(1, 6)))
        os.write(fd, "".join(f"given {n}\n" for n in given).encode())
        if rng.random() < 0.3:
            rng.shuffle(given)
        for number in given:
            if rng.random() < 0.1:
                spool.lose(number, number, "target_gone")
            elif spool.append(entry(number)):
                os.write(fd, b"written %d\n" % number)
        if rng.random() < 0.1:
            spool.prune()


def journal_of(path: Path) -> tuple[set[int], set[int]]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return ({int(line[6:]) for line in lines if line.startswith("given ")},
            {int(line[8:]) for line in lines if line.startswith("written ")})


def test_fifty_kills_under_load_lose_only_what_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(spool_module, "MIN_SEGMENT_BYTES", 20_000)
    folder, journal, rng = tmp_path / "s", tmp_path / "journal", random.Random(4)
    got: list[Item] = []
    for number in range(8):
        summary(number)  # made once, before the forks
    for seed in range(50):
        size = journal.stat().st_size if journal.exists() else 0
        pid = child(lambda seed=seed: write_under_load(folder, journal, seed))  # type: ignore[misc]
        enough, deadline = size + rng.randint(0, 600), time.monotonic() + 60
        cursor = Cursor(folder, "sink") if seed % 3 == 0 and folder.exists() else None
        while not journal.exists() or journal.stat().st_size <= enough:
            assert time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG) == (0, 0)
            if cursor is not None:
                got += drain(cursor, rng.randint(1, 9))
        for _ in range(rng.randint(0, 3000)):
            pass
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        if cursor is not None:
            got += drain(cursor, 5)
            cursor.close()
    spool = make(folder)
    got += delivered(folder)
    given, written = journal_of(journal)
    reserved = spool.reserve(1)[0] - 1
    assert numbers(got) == list(range(1, reserved + 1)), "each number once, in order"
    assert written <= {e.sequence for e in entries(got)}, "what was said to be written is there"
    assert given <= set(range(1, reserved + 1))
    assert all(e.summary == summary(e.sequence % 8) for e in entries(got))
    assert lost(got).keys() == {"crash", "target_gone"}
    assert spool.state().lost == lost(got) and spool.state().written == len(entries(got))
    assert len(files(folder)) > 50 and len(written) > 300


def copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    to.chmod(0o700)
    return to


def test_a_file_cut_at_any_byte_of_its_last_frames_reads_fine(tmp_path: Path) -> None:
    """What the last writes of a power cut look like. All that is whole is delivered, the rest is lost by "crash"."""
    spool = make(tmp_path / "s")
    made = fill(spool, 3)
    (path,) = files(tmp_path / "s")
    sizes = [path.stat().st_size]
    for _ in range(2):
        made += fill(spool, 1)
        sizes.append(path.stat().st_size)
    (lose,) = spool.reserve(1)
    spool.lose(lose, lose, "target_gone")
    sizes.append(path.stat().st_size)
    spool.reserve(1)
    original = path.read_bytes()
    for length in range(sizes[0], len(original) + 1):
        path.write_bytes(original[:length])
        (known,) = history_workloads(tmp_path / "s")
        assert known.windows == 3 + sum(length >= size for size in sizes[1:3])
    ends = {*range(sizes[0], len(original) + 1, 151), *(size + d for size in sizes for d in range(-9, 10, 6))}
    for length in sorted(end for end in ends if sizes[0] <= end <= len(original)):
        torn = copy(tmp_path / "s", tmp_path / "torn")
        (torn / path.name).write_bytes(original[:length])
        whole = 3 + sum(length >= size for size in sizes[1:3])
        again = make(torn)
        items = delivered(torn)
        assert entries(items) == made[:whole]
        assert numbers(items) == list(range(1, 8))
        told = length == sizes[3]
        assert lost(items) == ({"target_gone": 1, "crash": 1} if told else {"crash": 7 - whole})
        assert again.state().lost == lost(items)
        again.close()


def test_a_file_cut_while_a_sink_follows_it_does_not_confuse_the_sink(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    cursor = Cursor(tmp_path / "s", "sink")
    made = fill(spool, 2)
    (path,) = files(tmp_path / "s")
    assert drain(cursor) == made
    whole = path.read_bytes()
    made = fill(spool, 2)
    now = path.read_bytes()
    got: list[Item] = []
    for length in range(len(whole), len(now) + 1, 97):
        path.write_bytes(now[:length])
        got += drain(cursor)
    path.write_bytes(now)
    got += drain(cursor)
    assert got == made


def test_a_spool_killed_before_its_first_summary_lost_what_it_gave_out(tmp_path: Path) -> None:
    ready, go = os.pipe()

    def work() -> None:
        make(tmp_path / "s").reserve(3)
        os.write(go, b"x")
        time.sleep(600)

    pid = child(work)
    assert os.read(ready, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(go)
    spool = make(tmp_path / "s")
    assert delivered(tmp_path / "s") == [Gap(1, 3, "crash")]
    assert list(spool.reserve(1)) == [4] and spool.state().lost == {"crash": 3}


def test_a_torn_record_of_numbers_leaves_the_one_before(tmp_path: Path) -> None:
    """A write of the newer one that is cut off had not returned: nobody was given these numbers."""
    for cut in range(40):
        folder = tmp_path / str(cut)
        spool = make(folder)
        fill(spool, 2)
        old = (folder / "numbers").read_bytes()
        spool.reserve(5)
        new = (folder / "numbers").read_bytes()
        at = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b) // 4096 * 4096
        spool.close()
        (folder / "numbers").write_bytes(old[:at] + new[at:at + cut] + old[at + cut:])
        torn = make(folder)
        first = torn.reserve(1)[0]
        assert first in (3, 8) and (first == 8) == (new == (old[:at] + new[at:at + cut] + old[at + cut:]))


def test_numbers_that_were_lost_are_never_given_twice(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    fill(spool, 5)
    assert len(delivered(tmp_path / "s")) == 5
    spool.close()
    for damage in (b"", b"\0" * 8192, os.urandom(8192)):
        (tmp_path / "s" / "numbers").write_bytes(damage)
        spool = make(tmp_path / "s")
        assert list(spool.reserve(1)) == [6]
        spool.lose(6, 6, "x")
        spool.close()
        for path in files(tmp_path / "s")[1:]:
            path.unlink()
        (tmp_path / "s" / "totals.json").unlink()
    for path in files(tmp_path / "s"):
        path.unlink()
    (tmp_path / "s" / "numbers").unlink()
    assert list(make(tmp_path / "s").reserve(1)) == [6], "a sink has acknowledged 5"


def test_a_removed_log_goes_on_with_the_next_number(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    fill(spool, 5)
    spool.close()
    for path in (*files(tmp_path / "s"), tmp_path / "s" / "totals.json"):
        path.unlink()
    spool = make(tmp_path / "s", Clock())
    assert fill(spool, 1)[0].sequence == 6 and spool.state().lost == {}
    assert gaps(delivered(tmp_path / "s")) == []


def test_a_log_that_a_power_cut_shortened_brings_no_number_again(tmp_path: Path) -> None:
    """The sink had got all five; the disk then had three of them. Numbers are on the disk before they are used."""
    spool = make(tmp_path / "s")
    fill(spool, 3)
    (path,) = files(tmp_path / "s")
    size = path.stat().st_size
    fill(spool, 2)
    assert len(delivered(tmp_path / "s")) == 5
    spool._abandon()
    os.truncate(path, size)
    spool = make(tmp_path / "s")
    made = fill(spool, 1)
    assert made[0].sequence == 6 and delivered(tmp_path / "s") == made
    assert delivered(tmp_path / "s", "other")[3] == Gap(4, 5, "crash") and spool.state().lost == {"crash": 2}
