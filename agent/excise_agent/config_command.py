"""`excise config`: says what is wrong with a configuration, or what counts in it and where that comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from excise.cli import CliError
from excise_agent.config import ConfigError, Loaded, Problem, load
from excise_agent.config.setting import Section, Setting, members


def check(
    file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]
) -> tuple[list[Path], list[Problem]]:
    """The files that were read, and everything that is wrong."""
    try:
        return list(load(file, environ, overrides).files), []
    except ConfigError as error:
        return [], list(error.problems)


def loaded(file: Path | None, environ: Mapping[str, str], overrides: Mapping[str, str]) -> Loaded:
    """Raises CliError."""
    try:
        return load(file, environ, overrides)
    except ConfigError as error:
        raise CliError("\nexcise: ".join(map(str, error.problems))) from error


def parse_overrides(words: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE words. Raises CliError."""
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise CliError(f"--set wants KEY=VALUE, like agent.rate_hz=49, not {word!r}")
        found[key.strip()] = value.strip()
    return found


def check_json(files: list[Path], problems: list[Problem]) -> str:
    return json.dumps({
        "ok": not problems,
        "files": [str(file) for file in files],
        "problems": [
            {"where": p.origin.where, "line": p.origin.line or None, "key": p.key or None, "message": p.message,
             "suggestion": p.suggestion}
            for p in problems
        ],
    }, indent=2)


def show_lines(found: Loaded) -> list[str]:
    """As TOML, with a comment behind each value that says where it comes from."""
    return list(_lines(found, found.config, "", "", ""))


def _lines(found: Loaded, part: Any, heading: str, name: str, dotted: str) -> list[str]:
    lines = ["", heading] if heading else []
    tables: list[str] = []
    for key, (attribute, member) in members(type(part)).items():
        value = getattr(part, attribute)
        inner, place = f"{name}.{key}".lstrip("."), dotted + key
        if isinstance(member, Setting):
            lines.append(f"{key} = {' '.join(member.kind.toml(value).split())}  # {found.origins[place]}")
        elif isinstance(member, Section):
            tables += _lines(found, value, f"[{inner}]", inner, f"{place}.")
        else:
            for at, element in enumerate(value):
                heading = f"[[{inner}]]  # {found.origins[f'{place}[{at}]']}"
                tables += _lines(found, element, heading, inner, f"{place}[{at}].")
    return lines + tables


def show_json(found: Loaded) -> str:
    """{"agent.rate_hz": {"value": 19.0, "origin": "default"}}: seconds, bytes and ratios as numbers."""
    return json.dumps(dict(_values(found, found.config, "")), indent=2)


def _values(found: Loaded, part: Any, dotted: str) -> list[tuple[str, dict[str, Any]]]:
    values: list[tuple[str, dict[str, Any]]] = []
    for key, (attribute, member) in members(type(part)).items():
        value, place = getattr(part, attribute), dotted + key
        if isinstance(member, Setting):
            plain = value if value is None or isinstance(value, bool | int | float) else _plain(value)
            values.append((place, {"value": plain, "origin": str(found.origins[place])}))
        elif isinstance(member, Section):
            values += _values(found, value, f"{place}.")
        else:
            for at, element in enumerate(value):
                values += _values(found, element, f"{place}[{at}].")
    return values


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, tuple) else str(value)

