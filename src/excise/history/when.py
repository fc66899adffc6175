"""Moments and lengths of time as a user types them. Times of day and dates are local."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final

from excise.durations import length_ns

_TIME: Final = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")


@dataclass(frozen=True, slots=True)
class Range:
    """[since, until), ns since 1970. None: without an end on that side."""

    since_ns: int | None
    until_ns: int | None


def moment_ns(text: str, now_ns: int, after_ns: int | None = None) -> int:
    """`2026-11-24 10:00`, `2026-11-24T10:00:00+01:00`, `2026-11-24`, `10:00`, `10m ago`, `now`.

    A time of day is the last one that has been, or the first one after `after_ns`. ValueError says what it may be.
    """
    words = text.strip()
    if words.lower() == "now":
        return now_ns
    if words.lower().endswith("ago"):
        return now_ns - length_ns(words[:-3])
    try:
        if _TIME.fullmatch(words):
            return _time_of_day(time.fromisoformat(words.zfill(8 if words.count(":") == 2 else 5)), now_ns, after_ns)
        return round(datetime.fromisoformat(words).timestamp()) * 10**9
    except (ValueError, OverflowError, OSError):
        raise ValueError(f'{text!r} is no time: give one like "2026-11-24 10:00", 10:00, "10m ago" or now') from None


def _time_of_day(clock: time, now_ns: int, after_ns: int | None) -> int:
    day = datetime.fromtimestamp((now_ns if after_ns is None else after_ns) // 10**9).date()
    days = (day + timedelta(n) for n in ((0, -1) if after_ns is None else (0, 1)))
    moments = [round(datetime.combine(d, clock).timestamp()) * 10**9 for d in days]
    if after_ns is None:
        return moments[0] if moments[0] <= now_ns else moments[1]
    return moments[0] if moments[0] > after_ns else moments[1]


def range_of(last: str | None, since: str | None, until: str | None, now_ns: int) -> Range:
    """What --last, --since and --until ask for. ValueError."""
    if last is not None and since is not None:
        raise ValueError("--last and --since both say where the range begins: give one of them")
    since_ns = None if since is None else moment_ns(since, now_ns)
    until_ns = None if until is None else moment_ns(until, now_ns, since_ns)
    if last is not None:
        until_ns = now_ns if until_ns is None else until_ns
        since_ns = until_ns - length_ns(last)
    if since_ns is not None and since_ns >= now_ns:
        raise ValueError(f"--since {since}: that is yet to come")
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise ValueError(f"--until {until} is not after --since {since}")
    return Range(since_ns, now_ns if until_ns is None else min(until_ns, now_ns))
