"""Fields of a map from a file, each checked: present, of its type, in its range."""

from __future__ import annotations

import math
from typing import Any, Final

from excise.recording._format import Damaged

MAX_U32: Final = (1 << 32) - 1
MAX_I64: Final = (1 << 63) - 1


def integer(content: dict[str, Any], key: str, most: int = MAX_I64) -> int:
    """A count, a time or an id: none is negative."""
    value = content.get(key)
    if type(value) is not int or not 0 <= value <= most:
        raise Damaged(f"its {key} is malformed")
    return value


def real(content: dict[str, Any], key: str) -> float:
    value = content.get(key)
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise Damaged(f"its {key} is malformed")
    return float(value)


def text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str):
        raise Damaged(f"its {key} is malformed")
    return value


def mapping(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise Damaged(f"its {key} is malformed")
    return value


def sequence(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise Damaged(f"its {key} is malformed")
    return value


def span(content: dict[str, Any]) -> tuple[int, int]:
    start_ns, end_ns = integer(content, "start_ns"), integer(content, "end_ns")
    if end_ns < start_ns:
        raise Damaged("its span ends before it starts")
    return start_ns, end_ns


def number_or_none(value: object) -> bool:
    return value is None or (type(value) is int) or (type(value) is float and math.isfinite(value))


def free_form(content: dict[str, Any], key: str) -> dict[str, Any]:
    """A dictionary of whatever JSON can say: host facts, capabilities, overhead."""
    value = mapping(content, key)
    if not _is_json(value, depth=8):
        raise Damaged(f"its {key} is malformed")
    return value


def _is_json(value: object, depth: int) -> bool:
    if value is None or isinstance(value, (bool, int, str)):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if depth and isinstance(value, list):
        return all(_is_json(inner, depth - 1) for inner in value)
    if depth and isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(inner, depth - 1) for name, inner in value.items())
    return False
