"""The `excise` command: what needs no host (excise.cli), and what does."""

from __future__ import annotations

# Before numba is imported: its cache is pickle, so root's lies where only root writes, whatever the caller's
# environment says (sudo may pass it on).
from excise_agent._numba_cache import compiled_kernels, pin_numba_cache

pin_numba_cache()

import math  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import click  # noqa: E402

from excise.cli import (  # noqa: E402
    EXIT_PERMISSION,
    EXIT_TARGET,
    EXIT_USAGE,
    CliError,
    check_outputs,
    cli,
    emit_report,
    load_rules,
    output_options,
    run_cli,
)
from excise.durations import length_ns  # noqa: E402
from excise_agent.host import may_trace  # noqa: E402


class Duration(click.ParamType):  # type: ignore[type-arg]
    """10, 10s, 2m, 1h or 500ms, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = length_ns(str(value)) / 1e9
        except ValueError:
            seconds = 0.0
        if 0.05 <= seconds <= 7 * 86400:
            return seconds
        return self.fail(f"{value!r} is not a duration between 50ms and 7 days, like 10s, 2m or 500ms", param, ctx)


class Budget(click.ParamType):  # type: ignore[type-arg]
    """1%, 0.5% or none: a share of the target's CPU time, as a ratio; None is no limit."""

    name = "budget"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        text = str(value).strip().lower()
        if text in ("none", "off"):
            return None
        try:
            ratio = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        except ValueError:
            ratio = 0.0
        if 0 < ratio <= 1:
            return ratio
        return self.fail(f"{value!r} is not a budget: a share of the target's CPU like 1%, or none", param, ctx)


MIN_WINDOW_S = 1.0
CONTROL_SOCKET = Path("/run/excise/control.sock")
socket_option = click.option(
    "--socket", type=click.Path(path_type=Path), default=CONTROL_SOCKET, show_default=True, envvar="EXCISE_SOCKET",
    help="Where the agent listens.",
)  # fmt: skip


class Rate(click.FloatRange):
    """A number of the range: NaN, which compares with nothing, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}", param, ctx)
        return number


@cli.command()
@click.option("-p", "--pid", required=True, type=click.IntRange(1, 1 << 22), help="The process to watch.")
@click.option("-d", "--duration", type=Duration(), default="10s", show_default=True, help="How long: 10s, 2m, 500ms.")
@click.option(
    "--rate",
    type=Rate(0, 1000),
    default=99.0,
    show_default=True,
    help="Samples per second and CPU; 0 takes none.",
)
@click.option(
    "--budget",
    type=Budget(),
    default="1%",
    show_default=True,
    help="What Excise itself may cost, of the target's CPU (at least 0.5 % of a core); none: see everything.",
)
@click.option("--no-children", is_flag=True, help="Watch this process only, not its descendants.")
@click.option("--no-agent", is_flag=True, help="Own probes, also where a running agent watches this process already.")
@socket_option
@click.option("--record", metavar="FILE.excise", help="Keep the stream, for excise report, flame, folded and dump.")
@click.option("--summaries", metavar="FILE", help="Write a summary of each window, 4 KB a process; see excise dump.")
@click.option("--window", type=Duration(), default="10s", show_default=True, help="Length of such a window.")
@output_options
def attach(
    pid: int,
    duration: float,
    rate: float,
    budget: float | None,
    no_children: bool,
    no_agent: bool,
    socket: Path,
    record: str | None,
    summaries: str | None,
    window: float,
    stages: tuple[str, ...],
    quiet: bool,
    **outputs: Any,
) -> None:
    """Watches a running process and says where its time goes. No restart, no code change, nothing is stopped.

    Ctrl-C ends early and prints what was seen. Where an agent watches the process already it is asked, and samples as
    often as is wanted for that long; otherwise this puts probes of its own on.

    \b
    sudo excise attach --pid 4242
    sudo excise attach --pid 4242 --duration 30s --flame flame.html --record run.excise
    sudo excise attach --pid 4242 --json - --quiet | jq .ai_tax_ratio
    sudo excise attach --pid 4242 --duration 1h --summaries run.summaries --window 10s
    """
    check_outputs(record, summaries, **outputs)
    if window < MIN_WINDOW_S:
        raise CliError(f"--window is at least {MIN_WINDOW_S:g}s: totals are settled once a second")
    if summaries == "-":
        raise CliError("--summaries wants a file: they are binary, and the table goes to standard output")
    agent_socket = None if no_agent else socket
    # before the imports: they compile, and need a cache folder that such a user may lack
    if not may_trace() and not (agent_socket and agent_socket.exists()):
        raise CliError(
            f"attaching needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE: sudo excise attach --pid {pid}",
            EXIT_PERMISSION,
        )
    with compiled_kernels(lambda text: click.echo(f"excise: {text}", err=True)):
        from excise_agent.attach_command import run_attach

    report = run_attach(
        pid,
        duration,
        rate,
        budget,
        children=not no_children,
        agent_socket=agent_socket,
        record=record,
        summaries=summaries,
        window_s=window,
        rules=load_rules(stages),
        quiet=quiet,
    )
    emit_report(report, quiet=quiet, **outputs)


@cli.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE.toml",
              help="The configuration; /etc/excise/config.toml when not given, and the defaults without one.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Over what the file says.")
def agent(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Runs the service: finds inference processes by itself, watches them, keeps and ships summaries.

    In the foreground, until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.

    \b
    sudo systemctl enable --now excise
    sudo excise agent --config /etc/excise/config.toml
    sudo excise agent --set agent.rate_hz=49 --set log.level=debug
    """
    overrides: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or "." not in key:
            raise CliError(f"--set {setting}: is not SECTION.KEY=VALUE, like agent.rate_hz=49")
        overrides[key.strip()] = value
    if not may_trace():
        raise CliError("the agent needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE", EXIT_PERMISSION)
    with compiled_kernels(lambda text: click.echo(f"excise: {text}", err=True)):
        from excise_agent.agent_command import run_agent

    run_agent(config_file, overrides)


@cli.command()
@socket_option
@click.option("--json", "as_json", is_flag=True, help="As JSON (excise.status/1).")
def status(socket: Path, as_json: bool) -> None:
    """Says what the agent watches, since when, at what cost, what was shipped and what was lost.

    Exit code: 0 it runs and all is well; 1 it runs and something is not; 2 no agent runs; 3 not permitted.

    \b
    excise status
    excise status --json | jq .workloads
    """
    import json

    from excise.cli import EXIT_NO, EXIT_USAGE, console
    from excise_agent.service.control_client import ControlError, NotPermitted, call
    from excise_agent.status_command import is_well, render_status

    try:
        state = call(socket, "status")
    except NotPermitted as error:
        raise CliError(str(error), EXIT_PERMISSION) from error
    except ControlError as error:
        raise CliError(str(error), EXIT_USAGE) from error
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        render_status(state, console())
    sys.exit(0 if is_well(state) else EXIT_NO)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def doctor(as_json: bool) -> None:
    """Says what this host allows, what is lost without it, and the command that would give it.

    Exit code: 0 attach will work; 1 it will not, but py-spy would; 2 neither.

    \b
    sudo excise doctor
    """
    import json

    from excise.cli import console
    from excise_agent.capabilities import collect_capabilities
    from excise_agent.doctor import exit_code, render_doctor

    capabilities = collect_capabilities()
    if as_json:
        click.echo(json.dumps(capabilities.to_json(), indent=2))
    else:
        render_doctor(capabilities, console())
    sys.exit(exit_code(capabilities))


@cli.group("config")
def config_group() -> None:
    """Checks and shows the agent's configuration."""


_CONFIG_OPTIONS = (
    click.option("-c", "--config", "file", type=click.Path(path_type=Path), metavar="FILE",
                 help="Instead of /etc/excise/config.toml; conf.d beside it is read too."),
    click.option("--set", "words", multiple=True, metavar="KEY=VALUE", help="As if the file said so; again for more."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def config_options(function: Any) -> Any:
    """--config, --set, --json."""
    for option in reversed(_CONFIG_OPTIONS):
        function = option(function)
    return function


@config_group.command("check")
@config_options
def config_check(file: Path | None, words: tuple[str, ...], as_json: bool) -> None:
    """Says everything that is wrong with the configuration. Exit code: 0 nothing, 2 something.

    \b
    excise config check
    excise config check --config ./config.toml
    """
    from excise_agent.config_command import check, check_json, parse_overrides

    files, problems = check(file, os.environ, parse_overrides(words))
    if as_json:
        click.echo(check_json(files, problems))
    else:
        for problem in problems:
            click.echo(f"excise: {problem}", err=True)
        if not problems:
            click.echo(f"excise: the configuration is good ({', '.join(map(str, files)) or 'defaults only'})")
    sys.exit(EXIT_USAGE if problems else 0)


@config_group.command("show")
@config_options
def config_show(file: Path | None, words: tuple[str, ...], as_json: bool) -> None:
    """Prints what counts, and where each value comes from.

    \b
    excise config show
    EXCISE_AGENT_RATE_HZ=49 excise config show --set log.level=debug
    """
    from excise_agent.config_command import loaded, parse_overrides, show_json, show_lines

    found = loaded(file, os.environ, parse_overrides(words))
    click.echo(show_json(found) if as_json else "\n".join(show_lines(found)))


def main() -> None:
    """Entry point of `excise`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_cli()


__all__ = ["EXIT_PERMISSION", "EXIT_TARGET", "CliError", "main"]

if __name__ == "__main__":
    main()
