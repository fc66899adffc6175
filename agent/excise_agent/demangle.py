"""Readable names: C++ and Rust (legacy) demangled, long ones shortened, hostile ones survived."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from excise_agent.maps import printable

MAX_NAME: Final = 200          # characters shown
MAX_MANGLED: Final = 2048      # bytes given to the demangler
MAX_EXPANSION: Final = 8 << 20
"""Bound on len x 2^back-references. A back-reference can double what came before: libstdc++'s demangler took
2.9 s and 280 MB for a name of 235 bytes. Of 41 000 C++ symbols of LLVM, libbcc and onnxruntime under 1 % are
beyond this bound."""

_REFERENCE: Final = re.compile(r"[ST][0-9A-Z]*_")
_RUST_HASH: Final = re.compile(r"::h[0-9a-f]{16}$")
_CLONE: Final = re.compile(r" \[clone [^\]]*\]")
_VERSION: Final = re.compile(r"@@?[A-Za-z0-9_.]+$")
_RUST_ESCAPE: Final = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$")
_RUST_CHARS: Final = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_OPERATOR: Final = re.compile(r"operator ?(<=>|<<=|>>=|->\*|<<|>>|<=|>=|->|<|>|\(\))")


def demangle(raw: bytes) -> str:
    """A symbol's bytes as text to show, at most MAX_NAME characters. Never raises, never takes long."""
    name = printable(raw.decode("utf-8", "surrogateescape"))
    name = _VERSION.sub("", name) or name
    if name.startswith("_Z"):
        name = _demangled(name)
    return shorten(name)


def prepare_demangler() -> None:
    """Looks for the library now: that starts another program."""
    _demangler()


def _demangled(name: str) -> str:
    references = len(_REFERENCE.findall(name))
    if len(name) > MAX_MANGLED or references > 40 or len(name) << references > MAX_EXPANSION:
        return _prefix(name)
    plain = _demangler()(name)
    if plain is None:
        return _prefix(name)
    plain = _CLONE.sub("", plain)
    if _RUST_HASH.search(plain):
        plain = _rust(_RUST_HASH.sub("", plain))
    return plain


@cache
def _demangler() -> Callable[[str], str | None]:
    """libstdc++'s, or none where that library is not installed. Imported late: the import looks for the
    library."""
    try:
        import cxxfilt
    except (ImportError, OSError, LookupError, ValueError):
        return lambda _: None
    except Exception as exc:  # cxxfilt.LibraryNotFound cannot be named when its import fails
        if type(exc).__name__ != "LibraryNotFound":
            raise
        return lambda _: None

    def ask(name: str) -> str | None:
        try:
            return str(cxxfilt.demangle(name))
        except (cxxfilt.Error, ValueError, UnicodeError):
            return None

    return ask


def _prefix(name: str) -> str:
    """What can be read of a mangled name without expanding it: `ns::Class<...>`; the name itself if nothing
    can."""
    match = re.match(r"_ZN?[KVRO]*(?:St)?", name)
    assert match is not None
    at, parts = match.end(), ["std"] if match.group().endswith("St") else []
    while digits := re.match(r"[1-9][0-9]{0,3}", name[at : at + 4]):
        start = at + digits.end()
        at = start + int(digits.group())
        if at > len(name):
            break
        parts.append(name[start:at])
    if not parts or parts == ["std"]:
        return name
    return "::".join(parts) + ("<...>" if name[at : at + 1] == "I" else "")


def _rust(name: str) -> str:
    def char(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] != "u":
            return _RUST_CHARS[code]
        value = int(code[1:], 16)
        return printable(chr(value)) if value < 0xD800 else "?"

    parts = name.split("::")
    parts = [p[1:] if p.startswith("_$") else p for p in parts]
    return _RUST_ESCAPE.sub(char, "::".join(parts)).replace("..", "::")


def shorten(name: str) -> str:
    """Cut to MAX_NAME: first what is between <>, then what is between (), then the end."""
    if len(name) <= MAX_NAME:
        return name
    for opening, closing in ("<>", "()"):
        name = _fold(name, opening, closing)
        if len(name) <= MAX_NAME:
            return name
    return name[: MAX_NAME - 1] + "…"


def _fold(name: str, opening: str, closing: str) -> str:
    """Replace the outermost bracketed parts by "...". A leading `<` (Rust's `<T as Trait>`) is kept: it is
    the name."""
    out: list[str] = []
    depth, at = 0, 0
    operators = {m.start(): m.end() for m in _OPERATOR.finditer(name)}
    while at < len(name):
        end = operators.get(at, at + 1)
        token = name[at:end]
        if end == at + 1 and token == opening and at > 0:
            depth += 1
            if depth == 1:
                out.append(opening + "..." + closing)
        elif end == at + 1 and token == closing and depth > 0 and name[at - 1] != "-":
            depth -= 1
        elif depth == 0:
            out.append(token)
        at = end
    return "".join(out)
