"""Times as they are typed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from excise.durations import length_ns
from excise.history.when import Range, moment_ns, range_of

SECOND = 10**9
ZONE = ZoneInfo("Europe/Berlin")
NOW = round(datetime(2026, 11, 24, 12, 30, tzinfo=ZONE).timestamp()) * SECOND


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def berlin_ns(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=ZONE).timestamp()) * SECOND  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(("text", "seconds"), [
    ("10m", 600), ("90s", 90), ("90", 90), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400), (" 10 m ", 600),
    ("500ms", 0.5), ("1H", 3600),
])
def test_lengths(text: str, seconds: float) -> None:
    assert length_ns(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "m", "10x", "-5m", "ten minutes", "10m5", "0s", "nan", "inf", "9" * 40 + "d"])
def test_what_is_no_length_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="10m, 90s, 1h30m or 2d"):
        length_ns(text)


@pytest.mark.parametrize(("text", "moment"), [
    ("2026-11-24 10:00", berlin_ns(2026, 11, 24, 10)),
    ("2026-11-24T10:00:30", berlin_ns(2026, 11, 24, 10, 0, 30)),
    ("2026-11-24T10:00:00Z", berlin_ns(2026, 11, 24, 11)),
    ("2026-11-24T10:00:00+05:00", berlin_ns(2026, 11, 24, 6)),
    ("2026-07-01 10:00", berlin_ns(2026, 7, 1, 10)),  # summer time then, whatever it is now
    ("2026-11-24", berlin_ns(2026, 11, 24)),
    ("10:00", berlin_ns(2026, 11, 24, 10)),
    ("9:05:30", berlin_ns(2026, 11, 24, 9, 5, 30)),
    ("13:00", berlin_ns(2026, 11, 23, 13)),  # today's is yet to come
    ("now", NOW), ("10m ago", NOW - 600 * SECOND), ("1h30m ago", NOW - 5400 * SECOND),
])
def test_moments_are_local(text: str, moment: int) -> None:
    assert moment_ns(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday-ish", "25:00", "2026-13-01", "ago", "10 ago ago", "9999999-01-01"])
def test_what_is_no_time_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ValueError, match="give one like"):
        moment_ns(text, NOW)


def test_a_time_of_day_after_another_is_the_first_one() -> None:
    found = range_of(None, "2026-11-20 23:00", "01:00", NOW)
    assert found == Range(berlin_ns(2026, 11, 20, 23), berlin_ns(2026, 11, 21, 1))
    assert range_of(None, "2026-11-20 10:00", "11:00", NOW).until_ns == berlin_ns(2026, 11, 20, 11)


def test_last_ends_now_or_where_it_is_told_to() -> None:
    assert range_of("10m", None, None, NOW) == Range(NOW - 600 * SECOND, NOW)
    assert range_of("10m", None, "12:00", NOW) == Range(berlin_ns(2026, 11, 24, 11, 50), berlin_ns(2026, 11, 24, 12))


def test_a_range_may_be_open_and_never_reaches_beyond_now() -> None:
    assert range_of(None, None, "12:00", NOW) == Range(None, berlin_ns(2026, 11, 24, 12))
    assert range_of(None, "12:00", None, NOW) == Range(berlin_ns(2026, 11, 24, 12), NOW)
    assert range_of(None, "12:00", "2027-01-01", NOW) == Range(berlin_ns(2026, 11, 24, 12), NOW)


@pytest.mark.parametrize(("last", "since", "until", "said"), [
    ("10m", "12:00", None, "give one of them"),
    (None, "12:00", "2026-11-24 11:00", "is not after"),
    (None, "2026-11-25", None, "yet to come"),
    ("10m", None, "soon", "'soon' is no time"),
    ("soon", None, None, "'soon' is no length"),
])
def test_ranges_that_make_no_sense(last: str | None, since: str | None, until: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        range_of(last, since, until, NOW)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_an_error_with_a_way_out(text: str) -> None:
    for parse in (length_ns, lambda t: moment_ns(t, NOW)):
        try:
            assert isinstance(parse(text), int)
        except ValueError as error:
            assert "give one like" in str(error)
