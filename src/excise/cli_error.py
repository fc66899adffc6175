"""How a command ends that cannot do its work.

Exit codes of the whole tool: 0 done; 1 the answer is no (a check failed, a host is limited); 2 wrong usage or input;
3 not permitted; 4 the target was not there or went away before anything was seen.
"""

from __future__ import annotations

from typing import IO, Any

import click

EXIT_NO, EXIT_USAGE, EXIT_PERMISSION, EXIT_TARGET = 1, 2, 3, 4


class CliError(click.ClickException):
    """One clear sentence on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"excise: {self.format_message()}", err=True, file=file)
