"""Eight hours in fast-forward: what is kept does not grow, and every window is accounted for."""

from __future__ import annotations

from pathlib import Path

from faults.fast_forward import RENEW_EVERY, WINDOW_NS, FastForward, Holdings

HOUR = 3600 * 1_000_000_000 // WINDOW_NS  # windows
HOURS = 8
MOST_BYTES, KEEP_S = 1_000_000, 3 * 3600.0
SINK_DOWN = range(1 * HOUR, 6 * HOUR)  # longer than the spool holds
MOST_RSS_GROWTH_BYTES = 8_000_000  # arenas; objects are counted one by one
MOST_BLOCKS_GROWTH = 0.02
MOST_FILES = 20  # an eighth of the cap each, or an hour; cursor, numbers, lock, totals, counts, id


def test_eight_hours_leave_the_agent_as_it_was(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    run = FastForward(state_dir, MOST_BYTES, KEEP_S)
    readings: list[Holdings] = []
    for window in range(HOURS * HOUR):
        run.sink.down = window in SINK_DOWN
        run.window()
        if window % RENEW_EVERY == RENEW_EVERY * 9 // 10:  # names grow until the watch begins anew: alike moments
            readings.append(run.holdings())
    run.close()

    assert run.windows == HOURS * HOUR and run.made > 2 * run.windows
    sink, state = run.sink, run.spool.state()
    assert run.made == state.written and set(state.lost) <= {"unused"}
    dropped = {reason: n for reason, n in sink.lost.items() if reason != "unused"}
    assert sum(dropped.values()) > HOUR and set(dropped) == {"aged"}  # too old when the sink was up again
    assert run.made == sink.windows + sum(dropped.values())
    shipped = run.shipper.state()
    assert shipped.delivered == sink.windows
    assert sum(shipped.lost.values()) == sum(sink.lost.values())

    first, last = readings[0], readings[-1]
    assert len(readings) >= 4
    assert last.blocks < first.blocks * (1 + MOST_BLOCKS_GROWTH), readings
    assert last.rss_bytes - first.rss_bytes < MOST_RSS_GROWTH_BYTES, readings
    assert len({r.descriptors for r in readings}) == 1, readings
    assert all(r.disk_bytes < MOST_BYTES * 9 // 8 + 65536 and r.files <= MOST_FILES for r in readings), readings
    assert max(r.tables for r in readings) <= first.tables + 4, readings  # a job more or less
