"""Writes systemd/config.toml and the tables of docs/config.md: python -m excise_agent.config.document"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from excise_agent.config.schema import Config
from excise_agent.config.setting import Section, Setting, Tables, members, summary_of
from excise_agent.config.words import environment_name

ROOT: Final = Path(__file__).parents[3]
DEFAULT_CONFIG: Final = ROOT / "systemd/config.toml"
PAGE: Final = ROOT / "docs/config.md"
BEGIN: Final = "<!-- written by python -m excise_agent.config.document -->\n"
END: Final = "<!-- end -->\n"

_HEAD: Final = """\
# The configuration of Excise's agent. It works as it is: every key stands here with its default, commented out.
#
# Files in conf.d beside this one are read after it, by name: what a later one sets wins, [[tables]] add up.
# Check with: excise config check     Take over with: systemctl reload excise
# No secret belongs here: keys and passwords are files that are named here.
"""

_BLOCKS: Final = """\

# What follows can stand here more than once, or not at all. Take away the # of a whole block.
"""


def default_toml() -> str:
    """The default file. As it is, and with its keys' # taken away (but for the blocks), it is Config()."""
    parts = [_HEAD, *_section(Config, "", Config()), _BLOCKS]
    parts += [line for prefix, member in _tables(Config, "") for line in _block(prefix, member)]
    return "".join(parts)


def _section(of: type, name: str, shown: Any, comment: str = "") -> Iterator[str]:
    """Its own keys first, then its tables: TOML wants it so."""
    if name:
        yield f"\n# {_sentence(summary_of(of))}\n{comment}[{name}]\n"
    for key, (attribute, member) in members(of).items():
        if isinstance(member, Setting):
            yield from _key(key, member, getattr(shown, attribute))
    for key, (attribute, member) in members(of).items():
        if isinstance(member, Section):
            yield from _section(member.type, f"{name}.{key}".lstrip("."), getattr(shown, attribute), comment)


def _key(key: str, member: Setting, value: object) -> Iterator[str]:
    about = textwrap.wrap(f"{_sentence(member.why)} [{member.kind.expected}]", 98, break_on_hyphens=False)
    yield "\n" + "".join(f"# {line}\n" for line in about)
    yield "".join(f"#{line}\n" for line in f"{key} = {member.kind.toml(value)}".split("\n"))


def _block(name: str, member: Tables) -> Iterator[str]:
    yield f"\n# {_sentence(summary_of(member.type))}\n#[[{name}]]\n"
    for key, (attribute, inner) in members(member.type).items():
        if isinstance(inner, Setting):
            yield from _key(key, inner, getattr(member.example, attribute))
    for key, (attribute, inner) in members(member.type).items():
        if isinstance(inner, Section):
            yield from _section(inner.type, f"{name}.{key}", getattr(member.example, attribute), "#")


def _tables(of: type, prefix: str) -> Iterator[tuple[str, Tables]]:
    for key, (_, member) in members(of).items():
        if isinstance(member, Tables):
            yield prefix + key, member
        elif isinstance(member, Section):
            yield from _tables(member.type, f"{prefix}{key}.")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def markdown() -> str:
    """A table for each table of the configuration."""
    parts = [_rows(Config, "Before the first table", "")]
    for key, (_, member) in members(Config).items():
        if isinstance(member, Section):
            parts.append(_rows(member.type, f"`[{key}]`", f"{key}."))
    for name, tables in _tables(Config, ""):
        parts.append(_rows(tables.type, f"`[[{name}]]`", None))
        for key, (_, member) in members(tables.type).items():
            if isinstance(member, Section):
                parts.append(_rows(member.type, f"`[{name}.{key}]`", None))
    return "\n".join(parts)


def _rows(of: type, title: str, prefix: str | None) -> str:
    """`prefix` None: the environment and the command line cannot set these."""
    about = f": {summary_of(of)}" if title.startswith("`") else ""
    lines = [f"### {title}{about}", "", "| key | default | what | must be |", "|---|---|---|---|"]
    for key, (_, member) in members(of).items():
        if isinstance(member, Setting):
            default = member.kind.toml(member.default).replace("\n", "")
            name = f"`{key}`" if prefix is None else f"`{key}`<br>`{environment_name(prefix + key)}`"
            what = member.why + (" (read at the start only)" if member.restart else "")
            cells = [name, f"`{_short(default)}`", what, member.kind.expected]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(default: str) -> str:
    return default if len(default) <= 60 else default[:40].rsplit(",", 1)[0] + ", ...]"


def page(text: str) -> str:
    """The page with its tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{rest.partition(END)[2]}"


def main() -> None:
    DEFAULT_CONFIG.write_text(default_toml())
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
