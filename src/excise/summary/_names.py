"""Classes by name: `logging`, `compute.gpu`, `unattributed.lost`. A name before its first dot is the stage.

A summary says names and not numbers, so that one with another version's stages reads, merges and is sent on unharmed.
"""

from __future__ import annotations

from typing import Final

from excise.ledger.classes import CLASSES


def class_name(stage: str, part: str | None) -> str:
    """The name of one of `CLASSES`: a substage has its stage's name in it already, a reason has not."""
    if part is None:
        return stage
    return part if part.startswith(f"{stage}.") else f"{stage}.{part}"


def stage_of(name: str) -> str:
    return name.partition(".")[0]


CLASS_NAMES: Final = tuple(class_name(stage, part) for stage, part in CLASSES)
"""In the order of `CLASSES`."""

ALL_STATES: Final = ""
"""In place of a state: every state in which a thread waits."""
