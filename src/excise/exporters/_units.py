"""Numbers as people read them: three digits, a unit, and a dash for what was not measured."""

from __future__ import annotations

UNKNOWN = "-"
NOT_MEASURED = "not measured"


def duration(ns: float | None) -> str:
    """`12.3 s`, `45.6 ms`, `789 µs`, `12 ns`; `-` when unknown."""
    if ns is None:
        return UNKNOWN
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if abs(ns) >= size * 0.9995:  # 999.6 µs reads as 1.00 ms
            return f"{_three_digits(ns / size)} {unit}"
    return "0 s" if ns == 0 else f"{ns:.0f} ns"


def percent(ratio: float | None) -> str:
    """`57.1 %`, `<0.1 %` for the little that is not nothing; `-` when unknown."""
    if ratio is None:
        return UNKNOWN
    if 0 < ratio < 0.0005:
        return "<0.1 %"
    if ratio == 0:
        return "0 %"
    return f"{100 * ratio:.1f} %"


def size(count: float | None) -> str:
    """Bytes, in powers of 1024."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1023.5:
            return f"{value:.0f} B" if unit == "B" else f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} TiB"


def cores(count: float | None) -> str:
    if count is None:
        return UNKNOWN
    return f"{count:.2f}".rstrip("0").rstrip(".")


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 thread`, `12,345 threads`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def ratio(part: float | None, whole: float | None) -> float | None:
    """None where either is unknown or there is nothing to divide by."""
    return None if part is None or not whole else part / whole


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
