"""Globs over paths and names. Most are literal or a folder: those never reach the regex compiler (100 us each)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

_WILD: Final = frozenset("*?")
_BRACE: Final = re.compile(r"\{([^{}]*)\}")
_HOME: Final = re.compile(r".*/(?:site-packages|dist-packages|lib(?:64)?/python3\.\d+t?|python3\d+\.zip)/")
_FROZEN: Final = re.compile(r"<frozen ([\w.]+)>")

Match = Callable[[str], bool]


def expand(pattern: str) -> list[str]:
    """"a{b,c}" -> ["ab", "ac"]."""
    found = _BRACE.search(pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [out for part in found[1].split(",") for out in expand(head + part + tail)]


def normal_file(file: str) -> str:
    """A module's path from where modules are found: ".../site-packages/PIL/Image.py" -> "PIL/Image.py",
    "<frozen importlib._bootstrap>" -> "importlib/_bootstrap.py". Any other path stays: it is user code."""
    if file.startswith("<frozen "):
        found = _FROZEN.fullmatch(file)
        return found[1].replace(".", "/") + ".py" if found else file
    found = _HOME.match(file)
    return file[found.end() :] if found else file


def literal(pattern: str) -> int:
    """How much of a pattern is not wild: of two that match, the longer one knows better."""
    return sum(c not in _WILD for c in pattern)


def is_literal(pattern: str) -> bool:
    return _WILD.isdisjoint(pattern)


@cache
def head(pattern: str) -> str:
    """The literal part before the first wild one: most patterns are ruled out by it, and never compiled."""
    return re.split(r"\*\*/|[*?]", pattern, maxsplit=1)[0]


@cache
def _regex(pattern: str, path: bool) -> re.Pattern[str]:
    out, i = "", 0
    while i < len(pattern):
        if path and pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif pattern.startswith("**", i):
            out, i = out + ".*", i + 2
        elif pattern[i] in _WILD:
            one = "[^/]" if path else "."
            out, i = out + one + ("*" if pattern[i] == "*" else ""), i + 1
        else:
            out, i = out + re.escape(pattern[i]), i + 1
    return re.compile(out, re.DOTALL)


def file_matches(pattern: str, file: str) -> bool:
    """`*` stays within a folder, `**` does not."""
    if is_literal(pattern):
        return pattern == file
    if pattern.endswith("/**") and is_literal(pattern[:-3]):
        return file.startswith(pattern[:-2])
    return file.startswith(head(pattern)) and _regex(pattern, path=True).fullmatch(file) is not None


def name_matches(pattern: str, name: str) -> bool:
    """`*` is any part of a name."""
    if is_literal(pattern):
        return pattern == name
    return name.startswith(head(pattern)) and _regex(pattern, path=False).fullmatch(name) is not None


def qualname_matches(pattern: str, name: str) -> bool:
    """Of a Python function. What is defined inside of it counts as it; before CPython 3.11 only the last part of a
    qualified name is known, and has to do."""
    outer, _, inner = name.partition(".<locals>.")
    if name_matches(pattern, name) or (inner and name_matches(pattern, outer)):
        return True
    if "." in name:
        return False
    last = pattern.rpartition(".")[2]
    return last != pattern and last != "*" and name_matches(last, name)
