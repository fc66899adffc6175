"""What a setting's value may be: read from TOML or from a text, bounded, and written back as TOML."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from excise.printable import printable

T = TypeVar("T")


class Kind(ABC, Generic[T]):
    """`expected` completes "must be ...". `secret`: a wrong value is not repeated, for it may hold a password."""

    expected: str
    secret = False

    @abstractmethod
    def read(self, value: object) -> T:
        """Of a TOML value. Raises ValueError; `expected` says the rest."""

    def from_text(self, text: str) -> T:
        """Of a word of the environment or the command line. Raises ValueError."""
        return self.read(text)

    def toml(self, value: T) -> str:
        return quoted(str(value))


def quoted(text: str) -> str:
    """As a basic string of TOML."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped) + '"'


class Flag(Kind[bool]):
    expected = "true or false"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def from_text(self, text: str) -> bool:
        return self.read({"true": True, "false": False}.get(text.lower()))

    def toml(self, value: bool) -> str:
        return "true" if value else "false"


class Whole(Kind[int]):
    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self.expected = f"a whole number from {least} to {most}"

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self._least <= value <= self._most:
            raise ValueError
        return value

    def from_text(self, text: str) -> int:
        return self.read(int(text[:20], 10))

    def toml(self, value: int) -> str:
        return str(value)


class Number(Kind[float]):
    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most
        self.expected = f"a number from {least:g} to {most:g}"

    def read(self, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not self._least <= value <= self._most:
            raise ValueError  # NaN too
        return float(value)

    def from_text(self, text: str) -> float:
        return self.read(float(text))

    def toml(self, value: float) -> str:
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)


class Text(Kind[str]):
    """One line that fits the pattern, without control characters."""

    def __init__(self, expected: str, pattern: str = r".{0,256}") -> None:
        self.expected, self._pattern = expected, re.compile(pattern, re.ASCII)

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or not self._pattern.fullmatch(value):
            raise ValueError
        return value


class Choice(Kind[str]):
    def __init__(self, *words: str) -> None:
        self.words = words
        self.expected = f"one of {', '.join(words)}"

    def read(self, value: object) -> str:
        if value not in self.words:
            raise ValueError
        return str(value)


class Folder(Kind[Path]):
    expected = "an absolute path"

    def read(self, value: object) -> Path:
        if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or len(value) > 1024:
            raise ValueError
        return Path(value)


class OptionalFile(Kind[Path | None]):
    expected = 'an absolute path, or "" for none'

    def read(self, value: object) -> Path | None:
        return None if value == "" else Folder().read(value)

    def toml(self, value: Path | None) -> str:
        return quoted("" if value is None else str(value))


class Many(Kind[tuple[T, ...]]):
    """A list; in the environment, parted by commas."""

    def __init__(self, one: Kind[T], expected: str, most: int = 1000) -> None:
        self.one, self.expected, self._most = one, expected, most

    def read(self, value: object) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > self._most:
            raise ValueError
        return tuple(self.one.read(item) for item in value)

    def from_text(self, text: str) -> tuple[T, ...]:
        return self.read([part for part in (word.strip() for word in text.split(",")) if part])

    def toml(self, value: Sequence[T]) -> str:
        items = [self.one.toml(item) for item in value]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= 100 else "[\n" + "".join(f"  {item},\n" for item in items) + "]"


def shown(value: object) -> str:
    """A wrong value, short enough for a sentence."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    text = printable(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


