"""Values that are no file's: words of the environment and of the command line, by dotted key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from excise.stages.errors import nearest
from excise_agent.config.errors import Origin, Problem
from excise_agent.config.kinds import shown
from excise_agent.config.schema import Config
from excise_agent.config.setting import Section, Setting, members

ENVIRONMENT: Final = "EXCISE_"
COMMAND_LINE: Final = Origin("command line")
_SERVICE: Final = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_[0-9]+_\w+)")
"""Kubernetes puts EXCISE_AGENT_PORT_... into the environment of pods that run beside a service called excise-agent."""

Values: TypeAlias = "dict[str, Any]"
"""By key: a `Found`, the Values of a section, or a list of the Values of an array of tables."""


@dataclass(frozen=True, slots=True)
class Found:
    value: Any
    origin: Origin


def settings(of: type = Config, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Those that have one value each, by dotted key; not those in arrays of tables."""
    for key, (_, member) in members(of).items():
        if isinstance(member, Setting):
            yield prefix + key, member
        elif isinstance(member, Section):
            yield from settings(member.type, f"{prefix}{key}.")


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """The keys that differ and that a running agent does not take over."""
    found = []
    for dotted, member in settings():
        if member.restart and value_of(old, dotted) != value_of(new, dotted):
            found.append(dotted)
    return tuple(found)


def value_of(config: Config, dotted: str) -> Any:
    """Of a key of `settings`."""
    inner: Any = config
    for key in dotted.split("."):
        inner = getattr(inner, members(type(inner))[key][0])
    return inner


def environment_name(dotted: str) -> str:
    """agent.rate_hz -> EXCISE_AGENT_RATE_HZ"""
    return ENVIRONMENT + dotted.replace(".", "_").upper()


def from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Values:
    """Of names that begin like those of a section: others that begin with EXCISE_ may be anybody's."""
    known = {environment_name(key): (key, member) for key, member in settings()}
    sections = [key for key, (_, member) in members(Config).items() if not isinstance(member, Setting)]
    ours = tuple(f"{environment_name(key)}_" for key in sections)
    found: Values = {}
    for name in sorted(environ):
        if name in known:
            key, member = known[name]
            _text(found, key, member, environ[name], Origin(f"environment {name}"), problems)
        elif name.startswith(ours) and not _SERVICE.fullmatch(name):
            problems.append(Problem(Origin(f"environment {shown_key(name)}"), "", "sets nothing that there is",
                                    nearest(name, known)))
    return found


def from_command_line(overrides: Mapping[str, str], problems: list[Problem]) -> Values:
    known = dict(settings())
    found: Values = {}
    for key, text in overrides.items():
        if key in known:
            _text(found, key, known[key], text, COMMAND_LINE, problems)
        else:
            problems.append(Problem(COMMAND_LINE, key, f'unknown key "{shown_key(key)}"', nearest(key, known)))
    return found


def _text(into: Values, dotted: str, member: Setting, text: str, origin: Origin, problems: list[Problem]) -> None:
    try:
        value = member.kind.from_text(text)
    except ValueError:
        problems.append(Problem(origin, dotted, must_be(dotted, member, text), near_word(member, text)))
        return
    *path, key = dotted.split(".")
    for part in path:
        into = into.setdefault(part, {})
    into[key] = Found(value, origin)


def must_be(key: str, member: Setting, value: object) -> str:
    but = "" if member.kind.secret else f", not {shown(value)}"
    return f'"{key}" must be {member.kind.expected}{but}'


def near_word(member: Setting, value: object) -> str | None:
    words: Iterable[str] = getattr(member.kind, "words", ())
    return nearest(value, words) if isinstance(value, str) else None


def shown_key(key: str) -> str:
    """An unknown key, short and fit to print."""
    text = key.encode("unicode_escape").decode() if not key.isprintable() else key
    return text if len(text) <= 60 else text[:57] + "..."
