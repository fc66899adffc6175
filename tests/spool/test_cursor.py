"""A sink's place: what it has not acknowledged comes again, what it has never does."""

import threading
from pathlib import Path

import pytest
from spools import delivered, drain, entries, entry, files, fill, last_of, make, numbers

from excise.framing import checksum
from excise.spool import Cursor, Gap, Item, SpoolError


def test_what_is_not_acknowledged_comes_again(tmp_path: Path) -> None:
    made = fill(make(tmp_path / "s"), 6)
    cursor = Cursor(tmp_path / "s", "sink")
    assert cursor.next(2) == made[:2] and cursor.next(2) == made[:2] and cursor.next(4) == made[:4]
    assert cursor.next(1) == made[:1]
    cursor.ack(1)
    assert cursor.next(9) == made[1:]
    cursor.ack(4)
    cursor.close()
    assert cursor.next(9) == []
    assert delivered(tmp_path / "s") == made[4:]


def test_acknowledging_is_monotonic_and_only_for_what_was_given(tmp_path: Path) -> None:
    made = fill(make(tmp_path / "s"), 6)
    cursor = Cursor(tmp_path / "s", "sink")
    with pytest.raises(ValueError, match="1 was acknowledged before it was given out"):
        cursor.ack(1)
    assert cursor.next(3) == made[:3]
    with pytest.raises(ValueError, match="4 was acknowledged before"):
        cursor.ack(4)
    cursor.ack(3)
    cursor.ack(1)
    assert cursor.next(9) == made[3:]


def test_a_gap_may_be_acknowledged_in_part(tmp_path: Path) -> None:
    spool = make(tmp_path / "s")
    spool.lose(spool.reserve(5)[0], 5, "gone")
    cursor = Cursor(tmp_path / "s", "sink")
    assert cursor.next(1) == [Gap(1, 5, "gone")]
    cursor.ack(3)
    assert cursor.next(1) == [Gap(4, 5, "gone")]
    cursor.close()
    assert delivered(tmp_path / "s") == [Gap(4, 5, "gone")]


def test_the_lag_is_what_the_log_has_more(tmp_path: Path) -> None:
    cursor = Cursor(tmp_path / "s", "sink")
    assert cursor.lag() == 0 and cursor.next(9) == []
    spool = make(tmp_path / "s")
    fill(spool, 5)
    assert cursor.lag() == 5
    cursor.next(2)
    assert cursor.lag() == 5
    cursor.ack(2)
    assert cursor.lag() == 3
    spool.reserve(4)
    assert cursor.lag() == 3, "what may still come to nothing is not behind"
    drain(cursor)
    assert cursor.lag() == 0


def test_sinks_are_apart_and_each_has_one_cursor(tmp_path: Path) -> None:
    made = fill(make(tmp_path / "s"), 4)
    cursor = Cursor(tmp_path / "s", "forward")
    with pytest.raises(SpoolError, match=r"forward\.cursor is in use: give each sink a name of its own"):
        Cursor(tmp_path / "s", "forward")
    assert drain(cursor) == drain(Cursor(tmp_path / "s", "clickhouse")) == made
    cursor.close()
    assert delivered(tmp_path / "s", "forward") == []
    for name in ("", ".", "../x", "a/b", "x" * 65, "a\n"):
        with pytest.raises(ValueError, match="cannot name a cursor"):
            Cursor(tmp_path / "s", name)


def test_a_new_sink_begins_with_the_oldest_and_is_told_of_no_loss_before_it(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=8 * 70_000)
    fill(spool, 500)
    first = spool.state().first_sequence
    items = delivered(tmp_path / "s", "new")
    assert first and first > 1 and numbers(items) == list(range(first, 501)) and len(entries(items)) == len(items)


def test_a_reader_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame of the log is read once, however often a sink looks."""
    spool = make(tmp_path / "s")
    cursor = Cursor(tmp_path / "s", "sink")
    made = fill(spool, 50)
    read = []
    monkeypatch.setattr("excise.spool._frames.checksum",
                        lambda kind, payload, real=checksum:
                        read.append(len(payload)) or real(kind, payload))
    got: list[Item] = []
    while items := cursor.next(3):
        got += items
        cursor.ack(last_of(items[-1]))
        cursor.next(3)
    assert got == made
    assert sum(read) < files(tmp_path / "s")[0].stat().st_size


def test_sinks_in_threads_get_all_of_what_is_written_meanwhile(tmp_path: Path) -> None:
    spool = make(tmp_path / "s", most_bytes=200 * 70_000)
    ended = threading.Event()
    got: dict[str, list[Item]] = {name: [] for name in ("a", "b", "c")}
    failed: list[BaseException] = []
    cursors = {name: Cursor(tmp_path / "s", name) for name in got}

    def sink(name: str) -> None:
        try:
            while True:
                last = ended.is_set()
                got[name] += drain(cursors[name], 5)
                if last:
                    return
        except BaseException as error:  # noqa: BLE001 - a thread's top frame; the test raises it
            failed.append(error)

    threads = [threading.Thread(target=sink, args=(name,), daemon=True) for name in got]
    for thread in threads:
        thread.start()
    made = []
    for number in spool.reserve(200):
        made.append(entry(number))
        assert spool.append(made[-1])
        assert all(cursor.lag() >= 0 for cursor in cursors.values()) and spool.state().written == number
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not failed and all(items == made for items in got.values())
