"""Which source line an instruction belongs to: CPython's line tables. The bytes come from the target."""

from __future__ import annotations

from typing import Final

UNKNOWN_LASTI: Final = 0xFFFFFFFF  # as a walk records "before the first instruction" or "not known"
_NO_LINE: Final = 15
_LONG: Final = 14
_NO_COLUMNS: Final = 13
_ONE_LINE: Final = 10  # 10..12: one line, delta 0..2


def line_of(linetable: bytes, firstlineno: int, lasti_bytes: int, version: int) -> int | None:
    """The line of the instruction at byte offset `lasti_bytes`; None: it has none, or the table is broken.

    Before the first instruction (negative, or UNKNOWN_LASTI) the answer is `firstlineno`. `version` is 0x030b
    for 3.11.
    """
    if lasti_bytes < 0 or lasti_bytes >= UNKNOWN_LASTI:
        return firstlineno
    if version < 0x030B:
        return _line_of_deltas(linetable, firstlineno, lasti_bytes)
    return _line_of_locations(linetable, firstlineno, lasti_bytes)


def _line_of_deltas(table: bytes, line: int, lasti: int) -> int | None:
    """PEP 626 (3.10): pairs of bytes covered, and signed line delta; -128: no line."""
    end = 0
    for i in range(0, len(table) - 1, 2):
        delta = table[i + 1] - 256 if table[i + 1] > 127 else table[i + 1]
        if delta != -128:
            line += delta
        end += table[i]
        if lasti < end:
            return None if delta == -128 else line
    return None


def _line_of_locations(table: bytes, line: int, lasti: int) -> int | None:
    """PEP 657 (3.11 on): entries of a head byte (bit 7, kind, code units - 1) and bytes without bit 7."""
    end = i = 0
    size = len(table)
    while i < size:
        head = table[i]
        if not head & 0x80:
            return None
        kind = head >> 3 & 15
        i += 1
        if kind in (_LONG, _NO_COLUMNS):
            value = shift = 0
            while i < size and shift <= 30:  # six bits a byte, lowest first; bit 6: more follow
                value |= (table[i] & 63) << shift
                shift += 6
                i += 1
                if not table[i - 1] & 64:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
        elif _ONE_LINE <= kind < _NO_COLUMNS:
            line += kind - _ONE_LINE
        end += 2 * ((head & 7) + 1)
        if lasti < end:
            return None if kind == _NO_LINE else line
        while i < size and not table[i] & 0x80:
            i += 1
    return None
