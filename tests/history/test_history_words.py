"""Ranges, holes and workloads in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from excise.exporters._history import holes_words, range_words, watched_words, workload_name
from excise.report import History, Hole
from excise.workload import Workload

SECOND = 10**9
NOON = round(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * SECOND


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(("workload", "words"), [
    (Workload("vllm", "rule"), "vllm"),
    (Workload("vllm.service", "unit"), "vllm.service (unit)"),
    (Workload("0123456789abcdef" * 4, "container"), "0123456789ab (container)"),
    (Workload("my-runtime-name", "container"), "my-runtime-name (container)"),
    (Workload("a\x1b[31m", "process"), "a\\x1b[31m (process)"),
])
def test_a_workload_is_called_what_the_host_calls_it(workload: Workload, words: str) -> None:
    assert workload_name(workload) == words


def test_a_range_is_local_and_names_its_zone() -> None:
    assert range_words(NOON, NOON + 90 * SECOND) == "2026-11-24 13:00:00 to 13:01:30 CET"


def test_a_range_over_midnight_has_both_dates() -> None:
    words = range_words(NOON, NOON + 86400 * SECOND)
    assert words == "2026-11-24 13:00:00 to 2026-11-25 13:00:00 CET"


def test_a_time_that_no_calendar_has_is_a_number() -> None:
    assert range_words(0, 10**30) == f"1970-01-01 01:00:00 to {10**30} ns"


def test_the_longest_holes_are_named_in_their_order() -> None:
    holes = tuple(Hole(NOON + i * 100 * SECOND, NOON + (i * 100 + i + 1) * SECOND, "crash" if i == 5 else None)
                  for i in range(6))
    history = History(None, 9, NOON, NOON + 600 * SECOND, 579 * SECOND, holes)
    assert watched_words(history) == "watched 579 s of 600 s, in 9 windows"
    assert holes_words(history) == (
        "2026-11-24 13:03:20 to 13:03:23 CET (3.00 s); 2026-11-24 13:05:00 to 13:05:04 CET (4.00 s); "
        "2026-11-24 13:06:40 to 13:06:45 CET (5.00 s); 2026-11-24 13:08:20 to 13:08:26 CET (6.00 s: crash); "
        "2 shorter ones")


def test_all_of_a_range_was_watched() -> None:
    assert watched_words(History(None, 1, NOON, NOON + 10 * SECOND, 10 * SECOND)) == "watched all 10.0 s, in 1 window"
