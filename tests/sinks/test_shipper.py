"""What becomes of windows on the way to a server: all are delivered or counted, whatever it does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_spool import MemoryCursor, MemorySpool, ship_all
from sample_items import AGENT, entries
from scripted_sink import ScriptedSink, down, none, poisoned_by

from excise.spool import Entry, Gap, Item
from excise_agent.sinks import AgentInfo, SinkError
from excise_agent.sinks.backoff import MOST_S, backoff_s
from excise_agent.sinks.counts import Counts, read_counts, write_counts
from excise_agent.sinks.shipper import BATCH, IDLE_S, SUSPECT, Shipper, SinkState

PLENTY_S = 60.0


def shipper(sink: ScriptedSink, cursor: MemoryCursor, folder: Path, agent: AgentInfo = AGENT) -> Shipper:
    return Shipper(sink, cursor, agent, folder / "sink.counts", draw=lambda: 0.5, wall_ns=lambda: 77)


def closes(state: SinkState, produced: int) -> bool:
    return state.delivered + sum(state.lost.values()) == produced


def test_everything_is_delivered_once_and_in_order(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    spool.append(*entries(1, 101))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship_all(ship, cursor)
    assert sink.sequences() == list(range(1, 102))
    assert max(map(len, sink.batches)) == BATCH
    state = ship.state()
    assert (state.delivered, state.lost, state.lag, state.failures, state.last_delivery_wall_ns) == (101, {}, 0, 0, 77)


def test_nothing_new_is_nothing_to_do(tmp_path: Path) -> None:
    sink = ScriptedSink()
    assert shipper(sink, MemoryCursor(MemorySpool()), tmp_path).step() == IDLE_S
    assert not sink.batches


def test_a_sink_that_likes_big_batches_pauses_only_when_there_is_no_backlog(tmp_path: Path) -> None:
    spool = MemorySpool()
    spool.append(*entries(1, BATCH + 3))
    ship = shipper(ScriptedSink(pause_s=20.0), MemoryCursor(spool), tmp_path)
    assert [ship.step(), ship.step()] == [0.0, 20.0]


def test_a_sink_that_is_down_longer_than_the_spool_holds_loses_what_is_counted(tmp_path: Path) -> None:
    spool, sink = MemorySpool(room=40), ScriptedSink(down)
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    for item in entries(1, 101):
        spool.append(item)
        ship.step()
    assert ship.state().retries == 101 and "refused" in (ship.state().last_error or "")
    sink.trouble = none
    ship_all(ship, cursor)
    assert sink.sequences() == list(range(62, 102))
    assert sink.gaps() == [Gap(1, 61, "full")]
    assert ship.state().lost == {"full": 61} and closes(ship.state(), 101)
    assert ship.state().failures == 0


def test_one_poisonous_summary_is_dropped_named_and_told_and_the_rest_arrives(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink(poisoned_by(17))
    spool.append(*entries(1, 50))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship_all(ship, cursor)
    assert sorted(sink.sequences()) == [n for n in range(1, 51) if n != 17]
    assert sink.gaps() == [Gap(17, 17, "rejected")]
    state = ship.state()
    assert state.lost == {"rejected": 1} and closes(state, 50)
    assert state.last_error == "rejected 17: status 400: cannot parse row of [17]"


def test_a_server_that_takes_nothing_at_all_costs_nothing(tmp_path: Path) -> None:
    """A missing table is no reason to drop a day of summaries."""
    spool, sink = MemorySpool(), ScriptedSink(poisoned_by(*range(1, 51)))
    spool.append(*entries(1, 50))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    for _ in range(20):
        ship.step()
    assert cursor.acked == 0 and ship.state().lost == {}
    assert (ship.state().last_error or "").startswith("takes nothing: ")
    sink.trouble = none
    ship_all(ship, cursor)
    assert sink.sequences() == list(range(1, 51)) and closes(ship.state(), 50)


def test_many_poisonous_ones_in_a_row_do_not_block_the_way(tmp_path: Path) -> None:
    bad = range(1, 21)
    spool, sink = MemorySpool(), ScriptedSink(poisoned_by(*bad))
    spool.append(*entries(1, 50))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship_all(ship, cursor)
    assert ship.state().lost == {"rejected": 20} and closes(ship.state(), 50)


@pytest.mark.parametrize("bad", [{1}, {3}, {8, 9}, {2, 3, 4, 30}, {40}])
def test_a_summary_that_breaks_the_server_down_is_found_by_those_that_do_not(tmp_path: Path, bad: set[int]) -> None:
    """Fluent Forward cannot say no: a server that does not like a chunk closes the connection."""
    def break_down(items: Sequence[Item]) -> None:
        if any(isinstance(item, Entry) and item.sequence in bad for item in items):
            raise SinkError("closed the connection before its ack", "retry")

    spool, sink = MemorySpool(), ScriptedSink(break_down)
    spool.append(*entries(1, 41))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship_all(ship, cursor)
    assert set(sink.sequences()) == set(range(1, 42)) - bad
    assert {gap.first for gap in sink.gaps()} == bad
    assert ship.state().lost == {"rejected": len(bad)} and closes(ship.state(), 41)
    assert ship.state().retries >= SUSPECT


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_server_that_is_down_is_not_taken_for_a_poisonous_summary(tmp_path: Path, count: int) -> None:
    spool, sink = MemorySpool(), ScriptedSink(down)
    spool.append(*entries(1, count))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    for _ in range(3 * SUSPECT):
        ship.step()
    sink.trouble = none
    ship_all(ship, cursor)
    assert sink.sequences() == list(range(1, count + 1)) and ship.state().lost == {}


def test_gaps_are_told_and_counted_by_their_reason(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    spool.append(*entries(1, 3), Gap(4, 6, "crash"), *entries(7, 8), Gap(9, 9, "disk_full"))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship_all(ship, cursor)
    assert sink.gaps() == [Gap(4, 6, "crash"), Gap(9, 9, "disk_full")]
    assert ship.state().lost == {"crash": 3, "disk_full": 1} and closes(ship.state(), 9)


def test_counts_outlive_restarts_and_what_comes_twice_is_counted_once(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    spool.append(*entries(1, 5), Gap(6, 7, "crash"), *entries(8, 10))
    ship_all(shipper(sink, cursor := MemoryCursor(spool), tmp_path), cursor)
    spool.append(*entries(11, 12))
    again = shipper(sink, cursor := MemoryCursor(spool, acked=3), tmp_path)  # it was killed before the last acks
    ship_all(again, cursor)
    assert sink.sequences()[-7:] == [4, 5, 8, 9, 10, 11, 12]
    assert again.state().lost == {"crash": 2} and closes(again.state(), 12)


def test_a_sink_that_is_wrong_itself_does_not_end_its_thread(tmp_path: Path) -> None:
    def wrong(_items: Sequence[Item]) -> None:
        raise KeyError("typo")

    spool, sink = MemorySpool(), ScriptedSink(wrong)
    spool.append(*entries(1, 2))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship.step()
    assert ship.state().last_error == "KeyError: 'typo'" and ship.state().failures == 1
    sink.trouble = none
    ship_all(ship, cursor)
    assert closes(ship.state(), 2)


def test_counts_that_cannot_be_written_are_no_reason_to_acknowledge(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    spool.append(*entries(1, 2))
    folder = tmp_path / "gone"
    ship = shipper(sink, cursor := MemoryCursor(spool), folder)
    ship.step()
    assert cursor.acked == 0 and "FileNotFoundError" in (ship.state().last_error or "")
    folder.mkdir()
    ship_all(ship, cursor)
    assert set(sink.sequences()) == {1, 2} and closes(ship.state(), 2)


def test_the_thread_ships_and_stops(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    arrived = threading.Event()
    sink.trouble = lambda _items: arrived.set()
    spool.append(*entries(1, 3))
    ship = shipper(sink, cursor := MemoryCursor(spool), tmp_path)
    ship.start()
    assert arrived.wait(PLENTY_S) and ship.stop(PLENTY_S)
    assert sink.closed and cursor.closed and sink.sequences() == [1, 2, 3]


def test_a_delivery_that_hangs_is_interrupted_at_the_stop(tmp_path: Path) -> None:
    spool, sink = MemorySpool(), ScriptedSink()
    hangs = threading.Event()

    def hang(_items: Sequence[Item]) -> None:
        hangs.set()
        assert sink.interrupted.wait(PLENTY_S)
        raise SinkError("was stopped", "retry")

    sink.trouble = hang
    spool.append(*entries(1, 3))
    ship = shipper(sink, MemoryCursor(spool), tmp_path)
    ship.start()
    assert hangs.wait(PLENTY_S)
    ship.stop(0.0)
    assert ship.stop(PLENTY_S) and sink.closed
    assert ship.state().retries == 0, "a stop is no failure"


def test_a_sink_that_hangs_hurts_no_other(tmp_path: Path) -> None:
    spool, slow, fast = MemorySpool(), ScriptedSink(name="slow"), ScriptedSink(name="fast")
    all_there = threading.Event()
    slow.trouble = lambda _items: assert_(slow.interrupted.wait(PLENTY_S))
    fast.trouble = lambda items: all_there.set() if any(i.sequence == 100 for i in items) else None  # type: ignore[union-attr]
    spool.append(*entries(1, 100))
    ships = [Shipper(sink, MemoryCursor(spool), AGENT, tmp_path / sink.name) for sink in (slow, fast)]
    for ship in ships:
        ship.start()
    assert all_there.wait(PLENTY_S)
    assert ships[0].state().delivered == 0
    ships[0].stop(0.0)
    assert all(ship.stop(PLENTY_S) for ship in ships)
    assert ships[1].state().delivered == 100


def assert_(true: bool) -> None:
    assert true


@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_waits_grow_up_to_a_minute_and_are_spread_over_all_of_it(failures: int, draw: float) -> None:
    whole = min(MOST_S, 2.0 ** min(failures - 1, 16))
    assert backoff_s(failures, lambda: draw) == draw * whole


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_windows_are_delivered_or_counted(tmp_path_factory: pytest.TempPathFactory,
                                                            data: st.DataObject) -> None:
    """Outages, poison, drops and restarts in any order."""
    folder = tmp_path_factory.mktemp("counts")
    spool, sink = MemorySpool(room=data.draw(st.integers(3, 20))), ScriptedSink()
    ship = shipper(sink, cursor := MemoryCursor(spool), folder)
    produced = 0
    for _ in range(data.draw(st.integers(1, 8))):
        count = data.draw(st.integers(1, 12))
        spool.append(*entries(produced + 1, produced + count))
        produced += count
        if data.draw(st.booleans()):
            spool.append(Gap(produced + 1, produced + 2, "crash"))
            produced += 2
        sink.trouble = data.draw(st.sampled_from([none, down, poisoned_by(*range(1, 100, 7))]))
        for _ in range(data.draw(st.integers(0, 4))):
            ship.step()
        if data.draw(st.booleans()):
            behind = data.draw(st.integers(0, cursor.acked))
            ship = shipper(sink, cursor := MemoryCursor(spool, behind), folder)
    sink.trouble = none
    ship_all(ship, cursor)
    state = ship.state()
    assert closes(state, produced) and "uncounted" not in state.lost
    arrived, told = set(sink.sequences()), {n for gap in sink.gaps() for n in range(gap.first, gap.last + 1)}
    assert arrived | told == set(range(1, produced + 1))
    assert state.delivered <= len(arrived)


def test_a_file_of_counts_that_makes_no_sense_counts_from_here(tmp_path: Path) -> None:
    path = tmp_path / "x.counts"
    for content in (b"", b"{", b"[]", b'{"agent": "a", "first": 1, "through": 9, "delivered": 3, "lost": {}}',
                    b'{"agent": "a", "first": 1, "through": 1, "delivered": true, "lost": {}}',
                    b'{"agent": "a", "first": -1, "through": 1, "delivered": 3, "lost": {}}', b"\xff" * 99,
                    b'{"agent": "a", "first": 1, "through": 1, "delivered": 1, "lost": []}', b"[" * 60_000):
        path.write_bytes(content)
        assert read_counts(path, "a") == Counts()


def test_counts_of_another_agent_are_not_ours(tmp_path: Path) -> None:
    """Its numbers begin at 1 again."""
    path, counts = tmp_path / "x.counts", Counts(1, 3, 2, {"aged": 1})
    write_counts(path, "a", counts)
    assert read_counts(path, "a") == counts and read_counts(path, "b") == Counts()
    assert path.stat().st_mode & 0o777 == 0o600


def test_counts_are_not_read_or_written_through_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "x.counts"
    target.write_text("precious")
    link.symlink_to(target)
    assert read_counts(link, "a") == Counts()
    (tmp_path / "x.counts.new").symlink_to(target)
    write_counts(link, "a", Counts())
    assert target.read_text() == "precious" and not link.is_symlink()


def test_numbers_that_never_came_are_counted_as_such() -> None:
    counts = Counts().after(entries(5, 6)).after(entries(9, 9))
    assert counts == Counts(5, 9, 3, {"uncounted": 2})
