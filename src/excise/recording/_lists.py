"""The lists of names.py as a file knows them, and their numbers translated into today's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from excise import names
from excise.frames import FrameKind
from excise.recording._format import Damaged

FRAME_KINDS: Final[tuple[FrameKind, ...]] = get_args(FrameKind)
_MAX_NAMES = 256  # they number u1 fields


def current() -> dict[str, Any]:
    """Content of a NAMES frame. Stages and drops are for other readers; items carry those by name."""
    return {
        "stages": list(names.STAGES),
        "kernel_states": list(names.KERNEL_STATES),
        "drops": list(names.DROPS),
        "fd_classes": list(names.FD_CLASSES),
        "frame_kinds": list(FRAME_KINDS),
    }


@dataclass(frozen=True, slots=True)
class Lists:
    """Number in the file -> number today. What today's lists lack becomes the list's own "don't know"."""

    states: NDArray[np.uint8]
    fd_classes: NDArray[np.uint8]
    kinds: tuple[FrameKind, ...]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Lists:
        states = _strings(content, "kernel_states")
        fd_classes = _strings(content, "fd_classes")
        kinds = _strings(content, "frame_kinds")
        other, unknown = names.KERNEL_STATE_ID["other"], names.FD_CLASS_ID["unknown"]
        known: dict[str, FrameKind] = {kind: kind for kind in FRAME_KINDS}
        return cls(
            np.array([names.KERNEL_STATE_ID.get(s, other) for s in states], np.uint8),
            np.array([names.FD_CLASS_ID.get(s, unknown) for s in fd_classes], np.uint8),
            tuple(known.get(kind, "native") for kind in kinds),
        )


def translate(numbers: NDArray[Any], table: NDArray[np.uint8], what: str) -> NDArray[np.uint8]:
    if len(numbers) and int(numbers.max()) >= len(table):
        raise Damaged(f"a {what} has no name")
    out: NDArray[np.uint8] = table[numbers]
    return out


def _strings(content: dict[str, Any], key: str) -> list[str]:
    value = content.get(key)
    if not isinstance(value, list) or len(value) > _MAX_NAMES or not all(isinstance(s, str) for s in value):
        raise Damaged(f"its list of {key} is malformed")
    return value
