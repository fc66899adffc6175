"""The classes that time is put in: every stage, compute in its parts, the unattributed in its reasons."""

from __future__ import annotations

from typing import Final

import numpy as np

from excise.names import STAGES, SUBSTAGES, UNATTRIBUTED


def _classes() -> tuple[tuple[str, str | None], ...]:
    out: list[tuple[str, str | None]] = []
    for stage in STAGES:
        if stage == "unattributed":
            out += [(stage, reason) for reason in UNATTRIBUTED]
        elif stage == "compute":
            out += [(stage, sub) for sub in SUBSTAGES]
        else:
            out.append((stage, None))
    return tuple(out)


CLASSES: Final = _classes()
"""(stage, substage or reason)."""

CLASS_ID: Final = {c: i for i, c in enumerate(CLASSES)}
LOST: Final = CLASS_ID["unattributed", "lost"]
NO_SAMPLE: Final = CLASS_ID["unattributed", "no_sample"]
NO_STACK: Final = CLASS_ID["unattributed", "no_stack"]

UNATTRIBUTED_CLASS: Final = np.array([stage == "unattributed" for stage, _ in CLASSES])


def class_id(stage: str, substage: str | None, reason: str | None) -> int:
    """The class of a verdict. Compute without a part is compute.cpu; unattributed without a reason is no_rule."""
    if stage == "compute":
        return CLASS_ID[stage, substage or "compute.cpu"]
    if stage == "unattributed":
        return CLASS_ID[stage, reason or "no_rule"]
    return CLASS_ID[stage, None]
