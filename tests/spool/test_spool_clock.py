"""Files age by what the log has lived through, not by what the wall clock says today."""

from pathlib import Path

import pytest
from spools import DAY, HOUR, SECOND, VLLM, YEAR, Clock, delivered, entries, files, make, numbers, summary_at

from excise.spool import Entry, Spool, read_history


def live(spool: Spool, clock: Clock, ns: int, every: int = 1200 * SECOND) -> int:
    """An agent that watches for so long, a window every twenty minutes."""
    for passed in range(0, ns, every):
        clock.now += every
        (number,) = spool.reserve(1)
        assert spool.append(Entry(number, VLLM, summary_at(clock.now, passed // every % 8)))
        spool.prune()
    return ns // every


def test_what_is_older_than_the_cap_goes_in_whole_files(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock, keep_s=6 * 3600)
    live(spool, clock, DAY)
    kept = entries(delivered(tmp_path / "s"))
    ages = [clock.now - max(s.end_wall_ns for spans in e.summary.spans.values() for s in spans) for e in kept]
    assert 6 * HOUR <= max(ages) <= 8 * HOUR
    assert len(kept) + spool.state().dropped == 72 == spool.state().written


@pytest.mark.parametrize("step", [YEAR, -YEAR, 50 * YEAR])
def test_a_clock_that_is_set_wipes_nothing_and_keeps_nothing_for_ever(tmp_path: Path, step: int) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    count = live(spool, clock, 12 * HOUR)
    clock.now += step
    spool.prune()
    assert len(entries(delivered(tmp_path / "s", "at_once"))) == count
    live(spool, clock, 8 * HOUR)
    assert len(entries(delivered(tmp_path / "s", "soon"))) == count + 24
    live(spool, clock, 48 * HOUR)
    state = spool.state()
    assert state.dropped >= count + 24 and state.oldest_wall_ns is not None
    assert clock.now - state.oldest_wall_ns < 26 * HOUR


@pytest.mark.parametrize("step", [YEAR, -YEAR])
def test_a_clock_that_is_set_while_the_agent_is_off_wipes_nothing(tmp_path: Path, step: int) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    count = live(spool, clock, 12 * HOUR)
    spool.close()
    clock.now += step
    spool = make(tmp_path / "s", clock)
    spool.prune()
    assert len(entries(delivered(tmp_path / "s", "at_once"))) == count
    live(spool, clock, 26 * HOUR)
    assert spool.state().dropped >= count - 4


def test_files_age_while_nothing_is_watched(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    live(spool, clock, 3 * HOUR)
    last = spool.state().last_sequence
    for _ in range(30):
        clock.now += 3000 * SECOND
        spool.prune()
    assert len(files(tmp_path / "s")) == 1, "the one that is written"
    spool.close()
    for _ in range(30):  # a host that starts the agent in the morning, and has nothing to watch
        spool = make(tmp_path / "s", clock)
        clock.now += 3000 * SECOND
        spool.prune()
        spool.close()
        clock.now += DAY
    spool = make(tmp_path / "s", clock)
    assert spool.state().files == 0 and spool.state().first_sequence is None
    assert list(spool.reserve(1)) == [(last or 0) + 1], "numbers go on"


def test_a_sink_is_told_what_went_when_all_went(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    count = live(spool, clock, 3 * HOUR)
    delivered(tmp_path / "s", "other")
    spool.close()
    spool = make(tmp_path / "s", clock, keep_s=60)
    clock.now += HOUR
    spool.prune()
    assert spool.state().files == 0
    live(spool, clock, 1200 * SECOND)
    assert numbers(delivered(tmp_path / "s", "other")) == [count + 1]


def test_reports_go_by_the_wall_clock_of_their_windows(tmp_path: Path) -> None:
    clock = Clock()
    spool = make(tmp_path / "s", clock)
    live(spool, clock, HOUR)
    clock.now -= YEAR
    then = clock.now
    live(spool, clock, HOUR)
    assert len(list(read_history(tmp_path / "s", until_ns=then + YEAR // 2))) == 3
    assert len(list(read_history(tmp_path / "s", since_ns=then + YEAR // 2))) == 3
