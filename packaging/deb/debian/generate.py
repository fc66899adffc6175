"""Writes what follows from the command line itself: man pages and completions. Argument: the package's root folder."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from excise import __version__
from excise_agent.cli import cli

COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/excise",
    "zsh": "usr/share/zsh/vendor-completions/_excise",
    "fish": "usr/share/fish/vendor_completions.d/excise.fish",
}


def roff(text: str) -> str:
    """Plain text as roff: nothing in it is a request."""
    out = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in out.splitlines())


def paragraphs(text: str) -> str:
    """A docstring's; those marked \\b keep their lines."""
    out = []
    for block in text.strip().split("\n\n"):
        lines = [line.strip() for line in block.splitlines()]
        if lines[0] == "\b":
            out.append(".nf\n" + roff("\n".join(lines[1:])) + "\n.fi")
        else:
            out.append(roff(" ".join(lines)))
    return "\n.PP\n".join(out)


def page(command: click.Command, names: list[str], day: str) -> str:
    """The man page of one command, section 1."""
    ctx = click.Context(command, info_name=" ".join(names))
    help_ = (command.help or "").strip()
    first = help_.partition("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")
    out = [
        f'.TH {"-".join(names).upper()} 1 {day} "excise {__version__}"',
        ".SH NAME", f'{"-".join(names)} \\- {roff(first)}',
        ".SH SYNOPSIS", f".B {' '.join(names)}", roff(" ".join(command.collect_usage_pieces(ctx))),
        ".SH DESCRIPTION", paragraphs(help_),
        ".SH OPTIONS",
    ]
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            out += [".TP", f".B {roff(record[0])}", roff(record[1])]
    if isinstance(command, click.Group):
        out.append(".SH COMMANDS")
        for name in command.list_commands(ctx):
            sub = command.get_command(ctx, name)
            if sub is not None and not sub.hidden:
                out += [".TP", f".BR {'-'.join((*names, name))} (1)", roff(sub.get_short_help_str(200))]
    return "\n".join(out) + "\n"


def write_pages(command: click.Command, names: list[str], folder: Path, day: str) -> None:
    target = folder / f"{'-'.join(names)}.1.gz"
    target.write_bytes(gzip.compress(page(command, names, day).encode(), 9, mtime=0))
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            if not sub.hidden:
                write_pages(sub, [*names, name], folder, day)


def main(root: Path) -> None:
    from datetime import UTC, datetime

    day = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).date().isoformat()
    pages = root / "usr/share/man/man1"
    pages.mkdir(parents=True, exist_ok=True)
    write_pages(cli, ["excise"], pages, day)
    for shell, place in COMPLETIONS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        # not kind(...).source(): for bash that looks at the bash of this host
        source = kind.source_template % kind(cli, {}, "excise", "_EXCISE_COMPLETE").source_vars()
        target.write_text(source)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
