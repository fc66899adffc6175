"""What is wrong with a rules file, said so that it can be mended."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class RulesError(ValueError):
    """A rules file that cannot be used: where, what, and the nearest valid name. `line` 0: the whole file."""

    def __init__(self, file: Path | str, line: int, message: str, suggestion: str | None = None) -> None:
        self.file, self.line, self.message, self.suggestion = Path(file), line, message, suggestion
        where = f"{file}:{line}" if line else f"{file}"
        hint = f'; did you mean "{suggestion}"?' if suggestion else ""
        super().__init__(f"{where}: {message}{hint}")


def nearest(word: object, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like `word`, if one does."""
    return next(iter(difflib.get_close_matches(str(word), list(valid), n=1, cutoff=0.6)), None)
