"""TOML with the line of every key. tomllib keeps none, nor does a well-kept library (2026-11: tomlkit, rtoml, msgspec).

A statement of TOML begins on a line of its own, and only a whole one parses: so the file is cut at the lines where what
has been gathered parses, and each piece is asked which key it sets. Nothing is guessed from the look of a line.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import Any, Final, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: ("discovery", "workload", 0, "unit"). Elements of arrays count from 0."""

MAX_TRIED: Final = 1 << 20
"""Characters that are parsed in search of lines, over and over where an array is long: at most a second or two."""

_POSITION: Final = re.compile(r"(.*) \(at line (\d+), column \d+\)")
_MAY_END: Final = re.compile(r"""[]}]|\"\"\"|'''""")  # a statement of more than one line ends in one of these


class TomlError(ValueError):
    """It is not TOML: `line` from 1, and why."""

    def __init__(self, line: int, message: str) -> None:
        self.line, self.message = line, message
        super().__init__(f"line {line}: {message}")


def parse_toml(text: str) -> dict[str, Any]:
    """Raises TomlError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.fullmatch(str(error))
        line = int(found[2]) if found else max(1, len(text.splitlines()))
        raise TomlError(line, found[1] if found else str(error).removesuffix(" (at end of document)")) from error
    except RecursionError as error:
        raise TomlError(1, "it is nested too deeply") from error
    except ValueError as error:  # Python reads no number of more than 4300 digits
        raise TomlError(1, "it has a number that is too long") from error


def lines_of(text: str) -> dict[Place, int]:
    """The line, from 1, of each key and table of a text that parses. Of an array's element: where it stands.

    Some places are missing when the search takes more than MAX_TRIED: use that of the table around them.
    """
    found: dict[Place, int] = {}
    with contextlib.suppress(_Enough):
        _search(text, found, _Parser())
    return found


def _search(text: str, found: dict[Place, int], parser: _Parser) -> None:
    table: Place = ()
    lengths: dict[Place, int] = {}  # of the arrays of tables
    piece: list[str] = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        piece.append(line)
        if len(piece) > 1 and not _MAY_END.search(line):
            continue
        content = parser.parsed("\n".join(piece))
        if content is None:
            continue
        first, head = number - len(piece) + 1, piece[0].lstrip(" \t")
        if head.startswith("["):
            table = _table(_keys(content), head.startswith("[["), lengths)
            for depth in range(1, len(table) + 1):
                found.setdefault(table[:depth], first)
        else:
            _note(content, table, first, found)
            _note_elements(content, table, first, piece, found, parser)
        piece = []


class _Enough(Exception):  # noqa: N818 - no error: it was searched for long enough
    pass


class _Parser:
    """Raises _Enough."""

    def __init__(self) -> None:
        self._left = MAX_TRIED

    def parsed(self, piece: str) -> dict[str, Any] | None:
        self._left -= len(piece)
        if self._left < 0:
            raise _Enough
        try:
            return tomllib.loads(piece)
        except tomllib.TOMLDecodeError:
            return None


def _keys(header: dict[str, Any]) -> list[str]:
    """Of `[a.b]`, alone: {"a": {"b": {}}}; of `[[a.b]]`: {"a": {"b": [{}]}}."""
    keys = []
    inner: Any = header
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    return keys


def _table(keys: list[str], is_element: bool, lengths: dict[Place, int]) -> Place:
    place: Place = ()
    for at, key in enumerate(keys):
        place = (*place, key)
        if is_element and at == len(keys) - 1:
            lengths[place] = lengths.get(place, 0) + 1
        if place in lengths:
            place = (*place, lengths[place] - 1)
    return place


def _note(value: object, place: Place, line: int, found: dict[Place, int]) -> None:
    if place:
        found.setdefault(place, line)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        _note(inner, (*place, key), line, found)


def _note_elements(
    content: dict[str, Any], table: Place, first: int, piece: list[str], found: dict[Place, int], parser: _Parser
) -> None:
    """An array over several lines: an element stands where the array, closed behind that line, first has it."""
    keys = _keys(content)
    place = (*table, *keys)
    ends: list[int] = []  # how many elements there are behind each line
    for upto in range(1, len(piece)):
        begun: Any = parser.parsed("\n".join(piece[:upto]) + "\n]")
        for key in keys:
            begun = begun.get(key) if isinstance(begun, dict) else None
        ends.append(len(begun) if isinstance(begun, list) else ends[-1] if ends else -1)
    if not ends or ends[-1] < 0:
        return  # one line, or no array
    for inner in [p for p in found if len(p) > len(place) and p[: len(place)] == place]:
        element = inner[len(place)]
        if isinstance(element, int):
            found[inner] = first + next((offset for offset, end in enumerate(ends) if end > element), len(ends))
