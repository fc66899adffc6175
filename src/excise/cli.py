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
from typing import Any, TypeVar

import click
from rich.console import Console

from excise import __version__
from excise.cli_error import EXIT_NO, EXIT_PERMISSION, EXIT_TARGET, EXIT_USAGE, CliError
from excise.history import HistoryError
from excise.recording import Recording, RecordingError
from excise.report import Report, to_json
from excise.source import (
    EXIT_CODES,
    HISTORY_OPTION,
    STAGES_OPTION,
    load_rules,
    report_from,
    source_options,
    warn_if_cut,
)
from excise.summary import SummaryError, SummaryFile, is_summaries

__all__ = [
    "EXIT_NO", "EXIT_PERMISSION", "EXIT_TARGET", "EXIT_USAGE", "CliError", "check_outputs", "cli", "console",
    "emit_report", "load_rules", "main", "output_options", "run_cli", "write_text",
]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_F = TypeVar("_F", bound=Callable[..., Any])


def write_text(path: str, text: str) -> None:
    """Writes a report file; "-" is standard output. Raises CliError."""
    if path == "-":
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as err:
        raise CliError(f"cannot write {path}: {err.strerror}") from err


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
            STAGES_OPTION,
            click.option("-q", "--quiet", is_flag=True, help="No table, no progress."),
        )
    ):
        function = option(function)
    return function


def check_outputs(*others: str | None, **files: Any) -> None:
    """Raises CliError when two of the files that are asked for would overwrite each other, or one of `others` (what
    is read), or be mixed on standard output."""
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


def _parted(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of `source_options` and of `output_options`."""
    names = ("workload", "last", "since", "until", "history", "stages")
    return {n: options[n] for n in names}, {n: v for n, v in options.items() if n not in names}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="excise")
def cli() -> None:
    """Finds the AI tax of a running inference process: the time that is not the model."""


@cli.command()
@source_options
@output_options
def report(recording: str | None, **options: Any) -> None:
    """Prints the ledger of a workload out of the agent's history, or of a FILE: a recording (`excise attach --record`)
    or summaries (`--summaries`).

    \b
    excise report run.excise
    excise report run.excise --stages my-stages.toml --json -
    sudo excise report --workload vllm --last 10m
    sudo excise report --workload vllm --since "2026-11-24 10:00" --until 11:00 --json -
    """
    source, outputs = _parted(options)
    check_outputs(recording, **outputs)
    emit_report(report_from(recording, **source), **outputs)


@cli.command()
@source_options
@click.option("-o", "--output", default="-", metavar="FILE.html", help="Where to; - is standard output.")
@STAGES_OPTION
def flame(recording: str | None, output: str, **options: Any) -> None:
    """Writes a flame graph, one HTML page that needs no network: of a workload of the history, or of a FILE
    (a recording or summaries).

    \b
    excise flame run.excise -o flame.html
    sudo excise flame --workload vllm --last 10m -o flame.html
    """
    from excise.exporters.flame import encode_flame

    check_outputs(recording, flame=output)
    write_text(output, encode_flame(report_from(recording, **options)))


@cli.command()
@source_options
@click.option(
    "--mode",
    type=click.Choice(["all", "cpu", "off"]),
    default="all",
    show_default=True,
    help="On a CPU, off it, or both.",
)
@STAGES_OPTION
def folded(recording: str | None, mode: str, **options: Any) -> None:
    """Prints stacks as `thread;stage;root;...;leaf microseconds`: of a workload of the history, or of a FILE
    (a recording or summaries). Summaries have no threads: the program's name stands for them.

    \b
    excise folded run.excise --mode cpu | flamegraph.pl > cpu.svg
    sudo excise folded --workload vllm --last 1h --mode cpu | flamegraph.pl > cpu.svg
    """
    from excise.exporters.folded import encode_folded

    write_text("-", encode_folded(report_from(recording, **options), mode))  # type: ignore[arg-type]


@cli.command()
@HISTORY_OPTION
@click.option("--json", "as_json", is_flag=True, help="As JSON (excise.history/1).")
def history(history: str, as_json: bool) -> None:
    """Lists what the agent has kept: workloads, windows, from when to when.

    \b
    sudo excise history
    sudo excise history --json | jq -r '.workloads[].name'
    """
    from excise.history.listing import listing_json, print_listing, read_listing

    try:
        found = read_listing(Path(history))
    except HistoryError as err:
        raise CliError(str(err), EXIT_CODES[err.problem]) from err
    if as_json:
        click.echo(json.dumps(listing_json(found), indent=2))
    else:
        print_listing(found, console())


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
