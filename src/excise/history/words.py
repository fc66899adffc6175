"""A cell's class and state in the words of this version."""

from __future__ import annotations

from dataclasses import dataclass

from excise.names import STAGES, STATES, SUBSTAGES
from excise.summary import CellKey


@dataclass(frozen=True, slots=True)
class Words:
    stage: str  # of STAGES
    reason: str | None  # when stage is "unattributed"
    substage: str | None  # of SUBSTAGES
    state: str  # of STATES
    foreign: str | None = None  # the class or state that this version does not know


def words_of(cell: CellKey) -> Words:
    stage, _, part = cell.cls.partition(".")
    state, foreign = cell.state, None
    if state not in STATES:
        state, foreign = "other", cell.state
    if stage not in STAGES:
        return Words("unattributed", "no_rule", None, state, cell.cls)
    if stage == "unattributed":
        return Words(stage, part or "no_rule", None, state, foreign)
    return Words(stage, None, cell.cls if cell.cls in SUBSTAGES else None, state, foreign)
