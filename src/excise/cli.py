"""The command line for everything that needs no host: `python -m excise report FILE`. Any user, no privileges.

Exit codes of the whole tool: 0 done; 1 the answer is no (a check failed, a host is limited); 2 wrong usage or input;
3 not permitted; 4 the target was not there or went away before anything was seen.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from rich.console import Console

from excise import __version__
from excise.recording import Recording, RecordingError
from excise.report import Report, to_json
from excise.report_file import open_report
from excise.stages import Rules, RulesError
from excise.summary import SummaryError, SummaryFile, is_summaries

EXIT_NO, EXIT_USAGE, EXIT_PERMISSION, EXIT_TARGET = 1, 2, 3, 4

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_F = TypeVar("_F", bound=Callable[..., Any])


class CliError(click.ClickException):
    """One clear sentence on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it on the class

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"excise: {self.format_message()}", err=True, file=file)


def write_text(path: str, text: str) -> None:
    """Writes a report file; "-" is standard output. Raises CliError."""
    if path == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        with os.fdopen(open_report(Path(path)), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        raise CliError(f"cannot write {path}: {err.strerror}") from err


def load_rules(files: tuple[str, ...]) -> Rules:
    """The built-in rules and these. Raises CliError naming file, line and the nearest valid name."""
    try:
        return Rules.load([Path(f) for f in files])
    except RulesError as err:
        raise CliError(str(err)) from err


def output_options(function: _F) -> _F:
    """--json, --folded, --flame, --speedscope, --top, --quiet, --stages."""
    for option in reversed(
        (
            click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON (excise.report/1)."),
            click.option("--folded", metavar="FILE", help="Write folded stacks, values in microseconds."),
            click.option(
                "--flame", metavar="FILE.html", help="Write an interactive flame graph, one self-contained page."
            ),
            click.option("--speedscope", metavar="FILE", help="Write a speedscope profile."),
            click.option(
                "--top",
                default=3,
                show_default=True,
                type=click.IntRange(0, 100),
                help="Costliest stacks per stage in the table.",
            ),
            click.option("--stages", multiple=True, metavar="FILE.toml", help="More stage rules; may be given again."),
            click.option("-q", "--quiet", is_flag=True, help="No table, no progress."),
        )
    ):
        function = option(function)
    return function


def check_outputs(*others: str | None, **files: Any) -> None:
    """Raises CliError when two of the files that are asked for would overwrite each other, or one of `others` (the
    recording), or be mixed on standard output."""
    wanted = [f for f in (files.get(n) for n in ("json_file", "folded", "flame", "speedscope")) if f]
    if wanted.count("-") > 1:
        raise CliError("only one of --json, --folded, --flame, --speedscope can go to standard output")
    seen: set[str] = set()
    for path in (*(o for o in others if o), *wanted):
        real = os.path.realpath(path)
        if path != "-" and real in seen and not real.startswith("/dev/"):
            raise CliError(f"{path} would be written over: give each output a file of its own")
        seen.add(real)


def emit_report(
    report: Report,
    *,
    json_file: str | None,
    folded: str | None,
    flame: str | None,
    speedscope: str | None,
    top: int,
    quiet: bool,
) -> None:
    """Writes the files that were asked for, and the table unless a file goes to standard output."""
    check_outputs(json_file=json_file, folded=folded, flame=flame, speedscope=speedscope)
    to_stdout = "-" in (json_file, folded, flame, speedscope)
    if json_file:
        write_text(json_file, json.dumps(to_json(report), indent=None if json_file != "-" else 2) + "\n")
    if folded:
        from excise.exporters.folded import encode_folded

        write_text(folded, encode_folded(report))
    if flame:
        from excise.exporters.flame import encode_flame

        write_text(flame, encode_flame(report))
    if speedscope:
        from excise.exporters.speedscope import encode_speedscope

        write_text(speedscope, encode_speedscope(report))
    if not quiet and not to_stdout:
        from excise.exporters.table import render_report

        render_report(report, console(), top)


def console() -> Console:
    """Standard output: colours on a terminal only; 100 columns where there is none."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 100, highlight=False)


def replay(path: str, rules: Rules) -> Report:
    """The report of a recording. Raises CliError."""
    from excise.ledger.build import build_report
    from excise.session import Session

    session = Session(rules)
    try:
        recording = Recording(path)
        for item in recording.items():
            session.feed(item)
    except RecordingError as err:
        raise CliError(str(err)) from err
    if session.header is None:
        raise CliError(f"{path}: the recording ends before its first item")
    if not session.totals and session.end is None:
        raise CliError(f"{path}: cut off before its first totals (about a second in); excise dump shows what there is")
    warn_if_cut(recording, path)
    return build_report(session)


def warn_if_cut(recording: Recording | SummaryFile, path: str) -> None:
    """Says so on standard error when the end is missing."""
    if recording.truncated:
        click.echo(f"excise: {path} is cut off; what is whole was read", err=True)


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="excise")
def cli() -> None:
    """Finds the AI tax of a running inference process: the time that is not the model."""


@cli.command()
@click.argument("recording")
@output_options
def report(recording: str, stages: tuple[str, ...], **outputs: Any) -> None:
    """Prints the ledger of a RECORDING made with `excise attach --record`.

    \b
    excise report run.excise
    excise report run.excise --stages my-stages.toml --json -
    """
    check_outputs(recording, **outputs)
    emit_report(replay(recording, load_rules(stages)), **outputs)


@cli.command()
@click.argument("recording")
@click.option("-o", "--output", default="-", metavar="FILE.html", help="Where to; - is standard output.")
@click.option("--stages", multiple=True, metavar="FILE.toml", help="More stage rules; may be given again.")
def flame(recording: str, output: str, stages: tuple[str, ...]) -> None:
    """Writes a RECORDING's flame graph: one HTML page that needs no network.

    \b
    excise flame run.excise -o flame.html
    """
    from excise.exporters.flame import encode_flame

    write_text(output, encode_flame(replay(recording, load_rules(stages))))


@cli.command()
@click.argument("recording")
@click.option(
    "--mode",
    type=click.Choice(["all", "cpu", "off"]),
    default="all",
    show_default=True,
    help="On a CPU, off it, or both.",
)
@click.option("--stages", multiple=True, metavar="FILE.toml", help="More stage rules; may be given again.")
def folded(recording: str, mode: str, stages: tuple[str, ...]) -> None:
    """Prints a RECORDING's stacks as `thread;stage;root;...;leaf microseconds`.

    \b
    excise folded run.excise --mode cpu | flamegraph.pl > cpu.svg
    """
    from excise.exporters.folded import encode_folded

    write_text("-", encode_folded(replay(recording, load_rules(stages)), mode))  # type: ignore[arg-type]


@cli.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Summaries as JSON, one object a line.")
def dump(file: str, as_json: bool) -> None:
    """Prints a recording's items, or the summaries in a FILE, as text: for bug reports and for the curious.

    \b
    excise dump run.excise | less
    excise dump summaries.bin --json | jq .ai_tax_ratio
    """
    from excise.exporters.dump import dump_lines
    from excise.exporters.dump_summary import summary_json, summary_lines

    try:
        if is_summaries(file):
            stream = SummaryFile(file)
            for summary in stream.summaries():
                lines = [json.dumps(summary_json(summary))] if as_json else summary_lines(summary)
                click.echo("\n".join(lines))
            warn_if_cut(stream, file)
            return
        if as_json:
            raise CliError(f"{file} is no file of summaries: --json prints these only")
        source = Recording(file)
        for line in dump_lines(source.items()):
            click.echo(line)
    except (RecordingError, SummaryError) as err:
        raise CliError(str(err)) from err
    warn_if_cut(source, file)


def run_cli() -> None:
    """Runs the command; a standard output that is closed or full ends it without a traceback."""
    try:
        cli(prog_name="excise")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"excise: cannot write standard output: {err.strerror}", err=True)
        sys.exit(EXIT_USAGE)


def main() -> None:
    """Entry point of `python -m excise`."""
    run_cli()


if __name__ == "__main__":
    main()
