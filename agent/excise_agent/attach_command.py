"""`excise attach`: builds a session, a recording and a watch, and turns what can go wrong into one sentence each."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from excise.batch import Item
from excise.cli import EXIT_PERMISSION, EXIT_TARGET, CliError
from excise.ledger.build import build_report
from excise.recording import RecordingError, RecordingWriter
from excise.report import Report
from excise.session import Session
from excise.stages import Rules
from excise.summarize import Summarizer
from excise.summary import Summary, SummaryError, SummaryWriter, fit
from excise_agent.attach import Options, Watch
from excise_agent.borrowed_watch import BorrowedWatch
from excise_agent.host import may_trace
from excise_agent.loader import LoadError
from excise_agent.service.control_client import ControlError, NoAgent, Refused

SUMMARY_BYTES = 4096  # of a window and process, with its stacks, compressed


def run_attach(
    pid: int,
    duration_s: float,
    rate_hz: float,
    budget_ratio: float | None,
    *,
    children: bool,
    agent_socket: Path | None,
    record: str | None,
    summaries: str | None,
    window_s: float,
    rules: Rules,
    quiet: bool,
) -> Report:
    """Watches and reports. Raises CliError."""
    check_target(pid)
    session = Session(rules)
    sinks: list[Callable[[Item], None]] = [session.feed]
    writer = _open_recording(record)
    summarizer = _open_summaries(summaries, rules, window_s)
    if summarizer is not None:
        sinks.append(summarizer.feed)

    def send(item: Item) -> None:
        for sink in sinks:
            sink(item)
        nonlocal writer
        if writer is not None:
            try:
                writer.write(item)
            except RecordingError as err:
                click.echo(f"excise: {err}; the recording ends here, the report goes on", err=True)
                writer = None

    notice: Callable[[str], None] = lambda text: click.echo(f"excise: {text}", err=True)  # noqa: E731
    options = Options(pid, duration_s, rate_hz, children, budget_ratio, window_s)
    watch = _watch(options, send, notice, agent_socket)
    # until there is something to report, a signal ends it at once
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if isinstance(watch, Watch):
            _start(watch, pid)
        for number in before:
            signal.signal(number, lambda *_: watch.stop())
        with _Progress(duration_s, quiet) as progress:
            watch.run(progress)
    except ControlError as err:
        raise CliError(str(err)) from err
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        watch.close()
        if summarizer is not None:
            summarizer.close()
        if writer is not None:
            try:
                writer.close()
            except RecordingError as err:
                click.echo(f"excise: {err}", err=True)
    return build_report(session)


def _watch(
    options: Options, sink: Callable[[Item], None], notice: Callable[[str], None], agent_socket: Path | None
) -> Watch | BorrowedWatch:
    """The agent's, where it watches the process already: two sets of probes cost twice. Else one of our own."""
    if agent_socket is not None and options.duration_s is not None:
        try:
            borrowed = BorrowedWatch(options, sink, agent_socket)
        except NoAgent:
            pass
        except Refused as err:
            if err.code != "not_watched":
                notice(f"the agent cannot help ({err}): with probes of our own")
        except ControlError as err:
            notice(f"{err}: with probes of our own")
        else:
            notice("the running agent watches it already: asking it")
            return borrowed
    if not may_trace():
        raise CliError(
            f"attaching needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE: sudo excise attach --pid {options.pid}",
            EXIT_PERMISSION,
        )
    return Watch(options, sink, notice)


def check_target(pid: int) -> None:
    """Raises CliError when the pid cannot be a target."""
    proc = Path(f"/proc/{pid}")
    try:
        status = (proc / "status").read_text(errors="replace")
    except FileNotFoundError:
        raise CliError(f"no process has pid {pid}", EXIT_TARGET) from None
    except ProcessLookupError:
        raise CliError(f"process {pid} has just ended", EXIT_TARGET) from None
    except OSError as err:
        raise CliError(f"process {pid}: {err.strerror}", EXIT_PERMISSION) from err
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields.get("Tgid", str(pid)).strip() != str(pid):
        raise CliError(f"{pid} is a thread of process {fields['Tgid'].strip()}: attach to that one", EXIT_TARGET)
    if fields.get("State", "").startswith("Z"):
        raise CliError(f"process {pid} has ended and waits for its parent (a zombie)", EXIT_TARGET)
    if "VmSize" not in fields:
        raise CliError(f"{pid} ({fields.get('Name', '').strip()}) is a kernel thread: it runs no program", EXIT_TARGET)
    if pid == os.getpid():
        raise CliError("that is this excise itself", EXIT_TARGET)


def _open_recording(path: str | None) -> RecordingWriter | None:
    if path is None:
        return None
    try:
        return RecordingWriter(path)
    except RecordingError as err:
        raise CliError(str(err)) from err


def _open_summaries(path: str | None, rules: Rules, window_s: float) -> Summarizer | None:
    """A summary of each window into a file; one that cannot be written ends the file, and not the watch."""
    if path is None:
        return None
    try:
        writer = SummaryWriter(path)
    except SummaryError as err:
        raise CliError(str(err)) from err

    def write(summary: Summary) -> None:
        if not writer.failed:
            try:
                writer.write(fit(summary, SUMMARY_BYTES * len(summary.processes)))
            except SummaryError as err:
                click.echo(f"excise: {err}; the summaries end here, the report goes on", err=True)

    return Summarizer(rules, write, round(window_s * 1e9))


def _start(watch: Watch, pid: int) -> None:
    try:
        watch.start()
    except LoadError as err:
        raise CliError(str(err)) from err
    except ProcessLookupError:
        raise CliError(f"process {pid} ended before it could be watched", EXIT_TARGET) from None
    except OSError as err:
        if err.errno in (errno.EPERM, errno.EACCES):
            raise CliError(
                f"attaching needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE: sudo excise attach --pid {pid}",
                EXIT_PERMISSION,
            ) from err
        raise CliError(f"attaching to {pid} failed: {err.strerror or err}") from err


class _Progress:
    """A live bar on a terminal's standard error; silent elsewhere."""

    def __init__(self, duration_s: float, quiet: bool) -> None:
        self._bar: Any = None
        self._duration_s = duration_s
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            # redrawn when we say so: a refresh thread would cost more than the sampling
            self._bar = Progress(
                TextColumn("watching"),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[seen]}"),
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
            )

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("watching", total=self._duration_s, seen="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, elapsed_s: float, samples: int, waits: int) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, completed=elapsed_s, seen=f"{samples} samples, {waits} waits (Ctrl-C ends early)"
            )
            self._bar.refresh()
