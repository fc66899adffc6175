"""Columns: integers as LEB128, one behind the other. Small ones, which most are, take a byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from excise.framing import Damaged

MAX_VALUE: Final = (1 << 128) - 1
"""Sums of a fleet's ns pass 2^64 in weeks; they pass this never."""

_MAX_BYTES: Final = 19


def pack(values: Iterable[int]) -> bytes:
    """ValueError for what is below 0 or over MAX_VALUE."""
    out = bytearray()
    for value in values:
        if not 0 <= value <= MAX_VALUE:
            raise ValueError(f"{value} is out of range")
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def unpack(column: object) -> list[int]:
    if not isinstance(column, bytes):
        raise Damaged("a column is malformed")
    if column.isascii():
        return list(column)
    out, value, shift = [], 0, 0
    for byte in column:
        value |= (byte & 127) << shift
        if byte > 127:
            shift += 7
            if shift == 7 * _MAX_BYTES:
                raise Damaged("a column holds a number that is out of range")
            continue
        if value > MAX_VALUE:
            raise Damaged("a column holds a number that is out of range")
        out.append(value)
        value = shift = 0
    if shift:
        raise Damaged("a column ends within a number")
    return out


def zigzag(value: int) -> int:
    """0, -1, 1, -2 as 0, 1, 2, 3."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(value: int) -> int:
    return -(value + 1 >> 1) if value & 1 else value >> 1


def rounded(value: int | None) -> tuple[int, int]:
    """A number with few significant bits as (shift + 1, value >> shift); (0, 0) is None."""
    if value is None:
        return 0, 0
    shift = (value & -value).bit_length() - 1 if value else 0
    return shift + 1, value >> shift


def unrounded(shift: int, value: int) -> int | None:
    if shift == 0:
        return None
    if shift > 128 or value << (shift - 1) > MAX_VALUE:
        raise Damaged("a column holds a number that is out of range")
    return value << (shift - 1)


class Column:
    """Values to be taken in order. Damaged when there are too few; `end` when there are too many."""

    def __init__(self, name: str, values: list[int]) -> None:
        self._name, self._values, self._at = name, values, 0

    def take(self) -> int:
        if self._at >= len(self._values):
            raise Damaged(f"its {self._name} are too few")
        self._at += 1
        return self._values[self._at - 1]

    def some(self, count: int) -> list[int]:
        if count > len(self._values) - self._at:
            raise Damaged(f"its {self._name} are too few")
        self._at += count
        return self._values[self._at - count:self._at]

    def more(self) -> bool:
        return self._at < len(self._values)

    def end(self) -> None:
        if self.more():
            raise Damaged(f"its {self._name} are too many")
