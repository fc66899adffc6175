"""`excise doctor`: the capabilities as a table, and what they come to."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from excise_agent.capabilities import Attach, Capabilities

_MARKS: Final = {
    "ok": "[green]ok[/]",
    "degraded": "[yellow]degraded[/]",
    "missing": "[dim]missing[/]",
    "error": "[red]error[/]",
}
_VERDICTS: Final[dict[Attach, str]] = {
    "bpf": "[green]attach works[/]: exact states and stacks through BPF.",
    "py-spy": "[yellow]attach does not work here[/]; py-spy itself would: py-spy top --pid PID (Python stacks only).",
    "none": "[red]attach cannot work here.[/] Reading recordings still does: excise report FILE.",
}


def exit_code(caps: Capabilities) -> int:
    """Of `excise doctor`: 0 attach works, 1 it does not but py-spy would, 2 neither."""
    return {"bpf": 0, "py-spy": 1, "none": 2}[caps.attach]


def render_doctor(caps: Capabilities, console: Console) -> None:
    """Prints the rows and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in caps.checks:
        table.add_row(check.name.replace("_", " "), _MARKS[check.status], escape(check.found))
        for label, text in (("lost", check.lost), ("fix", check.fix)):
            if text:
                table.add_row("", "", f"[dim]{label}:[/] {escape(text)}")
    console.print(table)
    console.print()
    console.print(_VERDICTS[caps.attach])
    for check in caps.blockers:
        console.print(f"  {check.name.replace('_', ' ')}: {escape(check.found)}. {escape(check.fix)}")
