"""A long watch of short-lived processes: sums stay, the report does not grow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from streams import END, HEADER, PID, SECOND, STACKS, nonzero, sample, session_of, slices, totals, waited

from excise.batch import Batch, Definitions, Item, Totals
from excise.frames import Frame, Process, Thread
from excise.ledger.build import build_report
from excise.ledger.ended import MOST_ENDED
from excise.session import Session

CHILDREN = 2003


def churn(children: int) -> Iterator[Item]:
    """One child at a time, each with two threads: one runs Python, the other waits."""
    yield HEADER
    yield Definitions(
        [Frame("python", "/srv/app.py", name) for name in STACKS], [(i,) for i in range(len(STACKS))],
        [Process(PID, 7, "server", "3.11.7")], [Thread(PID, PID, "server", True)],
    )
    for i in range(children):
        at, pid = SECOND + i * SECOND, 1000 + 10 * i
        yield Definitions(
            processes=[Process(pid, 100 + i, "child", "3.11.7", PID)],
            threads=[Thread(pid, pid, "child", True), Thread(pid + 1, pid, "waits-3", False)],
        )
        who = {"pid": pid, "tid": pid}
        other = {"pid": pid, "tid": pid + 1}
        yield Batch(at, at + SECOND, slices(
            sample("preprocess", 6, **who), sample("compute", 2, **who), waited("logging", "io", 500, 20, **who),
            waited(0, "lock", 900, **other)))
        yield Totals(at, at + SECOND, totals(
            {"net": 10, "sched_running_ns": 0, "sched_runnable_ns": 0},
            {"running": 8000, "io": 500, "runnable": 20, "sched_running_ns": 8000, "sched_runnable_ns": 20, **who},
            {"lock": 900, **other}))
    yield END


@pytest.fixture(scope="module")
def session() -> Session:
    return session_of(churn(CHILDREN))


def test_what_is_kept_is_bounded(session: Session) -> None:
    assert len(session.processes) <= MOST_ENDED + 2
    assert len(session.threads) <= 2 * MOST_ENDED + 4
    assert len(session.totals) <= 2 * MOST_ENDED + 4
    assert len(session.slices()) <= 4 * MOST_ENDED + 8


def test_sums_are_those_of_all(session: Session) -> None:
    report = build_report(session)
    found = nonzero(report)
    assert found["preprocess", "running_user"] == CHILDREN * 6000
    assert found["compute", "running_user"] == CHILDREN * 2000
    assert found["logging", "io"] == CHILDREN * 500
    (helper,) = report.helpers
    assert helper.states_ns["lock"] == CHILDREN * 900
    assert report.quality["schedstat"]["running_ratio"] == pytest.approx(1.0)


def test_the_one_that_stands_for_others_says_so(session: Session) -> None:
    (note,) = [note for note in build_report(session).notes if "stands for" in note]
    gone = CHILDREN + 1 - len(session.processes)
    assert f"stands for {gone:,} more" in note
