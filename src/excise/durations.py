"""Lengths of time as people write them: 10m, 90s, 1h30m, 500ms."""

from __future__ import annotations

import re
from typing import Final

UNITS_NS: Final = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
MOST_NS: Final = 366 * 86400 * 10**9
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ms|s|m|h|d)")


def length_ns(text: str) -> int:
    """`10m`, `1h30m`, `90s`, `2d`, `90` (seconds). ValueError says what it may be."""
    compact = text.strip().lower()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", compact):
        compact += "s"
    parts = _PART.findall(compact)
    total = sum(float(count) * UNITS_NS[unit] for count, unit in parts)  # so many digits are infinite
    if not parts or _PART.sub("", compact).strip() or not 0.5 < total <= MOST_NS:
        raise ValueError(f"{text!r} is no length of time: give one like 10m, 90s, 1h30m or 2d")
    return round(total)
