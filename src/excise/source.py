"""What a report is made from: a recording, a file of summaries, or an agent's history. For the command line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from excise.cli_error import EXIT_PERMISSION, EXIT_TARGET, EXIT_USAGE, CliError
from excise.history import DEFAULT_FOLDER, HistoryError, history_report, kept_in, range_of, summaries_report
from excise.recording import Recording, RecordingError
from excise.report import Report
from excise.stages import Rules, RulesError
from excise.summary import SummaryError, SummaryFile, is_summaries

_F = TypeVar("_F", bound=Callable[..., Any])

_PLAIN: Final = re.compile(r"[\w.@:+-]+", re.ASCII)
DEFAULT_LAST: Final = "10m"
EXIT_CODES: Final = {"unreadable": EXIT_USAGE, "unclear": EXIT_USAGE, "not permitted": EXIT_PERMISSION,
                     "not there": EXIT_TARGET}


def complete_workload(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names that the history has; none where it cannot be read. A shell puts them in the command line as they are, and
    a process may call itself `$(reboot)`: only plain ones."""
    folder = ctx.params.get("history") or DEFAULT_FOLDER
    try:
        kept = kept_in(Path(folder))[0]
    except HistoryError:
        return []
    return [CompletionItem(k.workload.name, help=k.workload.kind) for k in kept
            if k.workload.name.startswith(incomplete) and _PLAIN.fullmatch(k.workload.name)]


STAGES_OPTION = click.option(
    "--stages", multiple=True, metavar="FILE.toml", help="More stage rules, not for summaries; may be given again."
)
HISTORY_OPTION = click.option(
    "--history", metavar="DIR", envvar="EXCISE_HISTORY", default=str(DEFAULT_FOLDER), show_default=True,
    is_eager=True,  # the completion of names looks there
    show_envvar=True, type=click.Path(), help="Where the agent keeps its summaries, or a copy of it.",
)


def source_options(function: _F) -> _F:
    """[FILE], and --workload, --last, --since, --until, --history of what is read without one."""
    for option in reversed((
        click.argument("recording", metavar="[FILE]", required=False, type=click.Path()),
        click.option("-w", "--workload", metavar="NAME", shell_complete=complete_workload,
                     help="Which one of the history; not needed where there is one. See excise history."),
        click.option("--last", metavar="LENGTH",
                     help=f"Up to now, or to --until: 10m, 90s, 1h30m, 2d.  [default: {DEFAULT_LAST}]"),
        click.option("--since", metavar="TIME", help='Local: "2026-11-24 10:00", 10:00, "2h ago".'),
        click.option("--until", metavar="TIME", help="The same; 11:00 is the first after --since.  [default: now]"),
        HISTORY_OPTION,
    )):
        function = option(function)
    return function


def load_rules(files: tuple[str, ...]) -> Rules:
    """The built-in rules and these. Raises CliError naming file, line and the nearest valid name."""
    try:
        return Rules.load([Path(f) for f in files])
    except RulesError as err:
        raise CliError(str(err)) from err


def report_from(
    recording: str | None, *, workload: str | None, last: str | None, since: str | None, until: str | None,
    history: str, stages: tuple[str, ...],
) -> Report:
    """The report that the options of `source_options` ask for. Raises CliError."""
    if recording is None:
        _refuse_rules(stages)
        return _of_history(history, workload, last, since, until)
    for name, value in (("--workload", workload), ("--last", last), ("--since", since), ("--until", until)):
        if value is not None:
            raise CliError(f"{name} is of the agent's history: leave out {recording} to read that")
    if is_summaries(recording):
        _refuse_rules(stages)
        return _of_summaries(recording)
    return replay(recording, load_rules(stages))


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


def _of_summaries(path: str) -> Report:
    try:
        file = SummaryFile(path)
        report = summaries_report(file.summaries())
    except SummaryError as err:
        raise CliError(str(err)) from err
    warn_if_cut(file, path)
    if report.history is None or not report.history.windows:
        raise CliError(f"{path}: there is no whole summary in it")
    return report


def _of_history(
    folder: str, workload: str | None, last: str | None, since: str | None, until: str | None
) -> Report:
    if last is None and since is None and until is None:
        last = DEFAULT_LAST
    try:
        return history_report(Path(folder), workload, range_of(last, since, until, time.time_ns()))
    except ValueError as err:
        raise CliError(str(err)) from err
    except HistoryError as err:
        raise CliError(str(err), EXIT_CODES[err.problem]) from err


def _refuse_rules(stages: tuple[str, ...]) -> None:
    if stages:
        raise CliError(f"--stages {stages[0]}: summaries have their stages already; give the rules to the agent, or "
                       "make a recording to try them on")
