"""What a setting's value may be: read from TOML or from a text, bounded, and written back as TOML."""

from __future__ import annotations

import ipaddress
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from excise.printable import printable

T = TypeVar("T")

_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
                 "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_AMOUNT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z%]*)")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


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


class Address(Kind[str]):
    """HOST:PORT; an address of IP 6 in brackets."""

    expected = 'an address like "host.example:24224" or "[::1]:24224"'

    def read(self, value: object) -> str:
        host_and_port(value)
        return str(value)


class LoopbackAddress(Kind[str]):
    """Nothing of ours listens to the network."""

    expected = 'an address of this host alone, like "127.0.0.1:9477" or "[::1]:9477"'

    def read(self, value: object) -> str:
        host, _port = host_and_port(value, least_port=0)
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError
        return str(value)


class Url(Kind[str]):
    expected = "an http:// or https:// address without user, password or query: a password goes into a file"
    secret = True

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or len(value) > 1024:
            raise ValueError
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or "?" in value or "#" in value:
            raise ValueError
        if not parts.hostname or " " in value or parts.port == 0:
            raise ValueError
        return value


def host_and_port(value: object, least_port: int = 1) -> tuple[str, int]:
    """Raises ValueError."""
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not least_port <= int(port) <= 65535:
        raise ValueError
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if not _HOST.fullmatch(host):
        raise ValueError
    return host, int(port)


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


