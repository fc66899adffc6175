"""Numbers with a unit, written as texts: durations, sizes, shares."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, TypeVar

from excise.durations import UNITS_NS
from excise_agent.config.kinds import Kind, quoted

T = TypeVar("T")

_DURATIONS: Final = {unit: ns / 1e9 for unit, ns in UNITS_NS.items()}
_SIZES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
                 "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_AMOUNT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z%]*)")


class _Amount(Kind[T]):
    """A number with a unit, as a text."""

    def _split(self, value: object) -> tuple[Decimal, str]:
        found = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError
        return Decimal(found[1]), found[2]


class Duration(_Amount[float]):
    """Seconds."""

    def __init__(self, least_s: float, most_s: float, example: str) -> None:
        self._least_s, self._most_s = least_s, most_s
        self.expected = f'a duration from {duration(least_s)} to {duration(most_s)}, like "{example}"'

    def read(self, value: object) -> float:
        amount, unit = self._split(value)
        if unit not in _DURATIONS:
            raise ValueError
        seconds = float(amount * Decimal(str(_DURATIONS[unit])))
        if not self._least_s <= seconds <= self._most_s:
            raise ValueError
        return seconds

    def toml(self, value: float) -> str:
        return quoted(duration(value))


def duration(seconds: float) -> str:
    """In the largest unit that fits whole: 24h, 90s, 500ms."""
    exact = Decimal(repr(seconds))
    units = ("d", "h", "m", "s") if seconds >= 2 * 86400 else ("h", "m", "s")
    for unit in units:
        if exact and exact % int(_DURATIONS[unit]) == 0:
            return f"{int(exact / int(_DURATIONS[unit]))}{unit}"
    return f"{(exact * 1000).normalize():f}ms"


class Size(_Amount[int]):
    """Bytes."""

    def __init__(self, least: int, most: int, example: str) -> None:
        self._least, self._most = least, most
        self.expected = f'a size from {size(least)} to {size(most)}, like "{example}"'

    def read(self, value: object) -> int:
        amount, unit = self._split(value)
        if unit not in _SIZES:
            raise ValueError
        found = int(amount * _SIZES[unit])
        if not self._least <= found <= self._most:
            raise ValueError
        return found

    def toml(self, value: int) -> str:
        return quoted(size(value))


def size(count: int) -> str:
    """In the largest unit that fits whole: 200MB, 64KiB."""
    whole = [unit for unit, factor in _SIZES.items() if count % factor == 0 and count >= factor]
    unit = max(whole, key=lambda unit: (_SIZES[unit]), default="B")
    return f"{count // _SIZES[unit]}{unit}"


class Share(_Amount[float | None]):
    """A ratio, written in per cent; None is no limit."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self.expected = f'a share from {least:.2%} to {most:.0%}, like "1%", or "none"'

    def read(self, value: object) -> float | None:
        if value == "none":
            return None
        amount, unit = self._split(value)
        ratio = float(amount / 100)
        if unit != "%" or not self._least <= ratio <= self._most:
            raise ValueError
        return ratio

    def toml(self, value: float | None) -> str:
        return quoted("none" if value is None else f"{(Decimal(repr(value)) * 100).normalize():f}%")
