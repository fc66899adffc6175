"""From the real spool to a sink: what is dropped, damaged or never written is counted, the rest arrives once."""

from __future__ import annotations

from pathlib import Path

from sample_items import AGENT, entry
from scripted_sink import ScriptedSink, down, none, poisoned_by

from excise.spool import Cursor, Entry, Gap, Spool
from excise_agent.sinks.shipper import Shipper

DAY_S = 86_400.0


def produce(spool: Spool, count: int) -> int:
    """So many windows; the last of their numbers."""
    sequence = 0
    for _ in range(count):
        sequence = spool.reserve(1)[0]
        spool.append(entry(sequence))
    return sequence


def ship_all(ship: Shipper, cursor: Cursor) -> None:
    for _ in range(2000):
        if not cursor.lag():
            return
        ship.step()
    raise AssertionError(ship.state())


def shipper(folder: Path, sink: ScriptedSink) -> tuple[Shipper, Cursor]:
    cursor = Cursor(folder / "spool", sink.name)
    return Shipper(sink, cursor, AGENT, folder / f"{sink.name}.counts", draw=lambda: 0.0), cursor


def check_whole(sink: ScriptedSink, ship: Shipper, produced: int) -> None:
    arrived = [item for batch in sink.batches for item in batch]
    windows = {item.sequence: item for item in arrived if isinstance(item, Entry)}
    lost = {n for item in arrived if isinstance(item, Gap) for n in range(item.first, item.last + 1)}
    assert windows.keys() | lost == set(range(1, produced + 1))
    assert all(item == entry(sequence) for sequence, item in windows.items())
    state = ship.state()
    assert state.delivered + sum(state.lost.values()) == produced, state
    assert state.delivered == len(windows.keys() - lost)


def test_a_sink_that_is_down_longer_than_the_spool_holds(tmp_path: Path) -> None:
    spool, sink = Spool(tmp_path / "spool", AGENT.agent, 80 << 10, DAY_S), ScriptedSink()
    ship, cursor = shipper(tmp_path, sink)
    produce(spool, 20)
    ship_all(ship, cursor)
    sink.trouble = down
    for _ in range(12):
        last = produce(spool, 80)
        ship.step()
    sink.trouble = none
    ship_all(ship, cursor)
    check_whole(sink, ship, last)
    assert sum(ship.state().lost.values()) > 100 and ship.state().delivered > 100
    cursor.close()
    spool.close()


def test_crashes_of_the_agent_and_poison_and_outages(tmp_path: Path) -> None:
    """A crash loses what was reserved and not written, and says so to every sink; sinks fail each for itself."""
    bad = ScriptedSink(poisoned_by(5, 50, 51), name="bad")
    good = ScriptedSink(name="good")
    for round_ in range(6):
        spool = Spool(tmp_path / "spool", AGENT.agent, 10 << 20, DAY_S)
        ships = [shipper(tmp_path, sink) for sink in (bad, good)]
        produce(spool, 17)
        good.trouble = down if round_ % 2 else none
        for ship, _ in ships:
            ship.step()
        last = spool.reserve(3)[-1]  # and it is killed
        for _, cursor in ships:
            cursor.close()
        spool._abandon()
    spool = Spool(tmp_path / "spool", AGENT.agent, 10 << 20, DAY_S)
    last = produce(spool, 17)
    good.trouble = none
    for sink in (bad, good):
        ship, cursor = shipper(tmp_path, sink)
        ship_all(ship, cursor)
        check_whole(sink, ship, last)
        assert ship.state().lost["crash"] == 18
        assert ship.state().lost.get("rejected", 0) == (3 if sink is bad else 0)
        cursor.close()
    spool.close()
