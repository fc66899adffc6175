"""What is wrong with a configuration: all of it at once, each with its place, and said so that it can be mended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: a file and its line, or "default", "environment NAME", "command line"; then line 0."""

    where: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.where}:{self.line}" if self.line else self.where


@dataclass(frozen=True, slots=True)
class Problem:
    origin: Origin
    key: str  # "agent.rate_hz"; "": the whole file
    message: str
    suggestion: str | None = None  # the nearest valid word

    def __str__(self) -> str:
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return f"{self.origin}: {self.message}{hint}"


class ConfigError(ValueError):
    """A configuration that cannot be used."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
