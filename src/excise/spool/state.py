"""What a spool has and has lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpoolState:
    bytes: int  # of its segment files
    files: int
    first_sequence: int | None  # the first number that the files have; None: they have none
    last_sequence: int | None
    oldest_wall_ns: int | None  # start of the oldest summary
    lost: Mapping[str, int]  # windows that got no summary, by reason, since the beginning
    written: int  # summaries, since the beginning
    dropped: int  # of these, those that went with files that were too old or too many
