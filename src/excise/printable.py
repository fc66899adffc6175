"""Names of a watched program, fit to print: it may call a thing anything, escape sequences and line breaks included."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters, bidi overrides and lone surrogates as backslash escapes; all else as it is."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
