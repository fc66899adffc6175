"""Puts a configuration together: command line over environment over conf.d over file over default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from excise.stages.errors import nearest
from excise.toml_lines import Place, TomlError, lines_of, parse_toml
from excise_agent.config.errors import ConfigError, Origin, Problem
from excise_agent.config.files import DEFAULT_FILE, is_privileged, read_files
from excise_agent.config.kinds import shown
from excise_agent.config.schema import Config
from excise_agent.config.setting import Section, Setting, Tables, members
from excise_agent.config.words import (
    Found,
    Values,
    from_command_line,
    from_environment,
    must_be,
    near_word,
    settings,
    shown_key,
)

DEFAULT: Final = Origin("default")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and where each of its values comes from ("agent.rate_hz", "forward[0].address")."""

    config: Config
    origins: Mapping[str, Origin]
    files: tuple[Path, ...]


def load_config(path: Path | None = None, environ: Mapping[str, str] | None = None,
                overrides: Mapping[str, str] | None = None) -> Config:
    """See `load`. Raises ConfigError."""
    return load(path, environ, overrides).config


def load(path: Path | None = None, environ: Mapping[str, str] | None = None,
         overrides: Mapping[str, str] | None = None, *, default: Path = DEFAULT_FILE,
         privileged: bool | None = None) -> Loaded:
    """`path` None: the default file, which need not be there. `overrides` are texts from the command line by dotted key
    ("agent.rate_hz"). Raises ConfigError with everything that is wrong.
    """
    texts, problems = read_files(path, default, is_privileged() if privileged is None else privileged)
    values: Values = {}
    for file, text in texts:
        reader = _FileReader(file, problems)
        _add(values, reader.read(text))
    _add(values, from_environment(environ or {}, problems))
    _add(values, from_command_line(overrides or {}, problems))
    origins: dict[str, Origin] = {}
    config = _build(Config, values, "", origins, problems)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, origins, tuple(file for file, _ in texts))


class _FileReader:
    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self._file, self._problems = str(file), problems
        self._lines: Mapping[Place, int] = {}

    def read(self, text: str) -> Values:
        try:
            table = parse_toml(text)
        except TomlError as error:
            self._problems.append(Problem(Origin(self._file, error.line), "", f"is not TOML: {error.message}"))
            return {}
        self._lines = lines_of(text)
        return self._section(Config, table, ())

    def _section(self, of: type, table: dict[str, Any], place: Place) -> Values:
        found: Values = {}
        known = members(of)
        for key, raw in table.items():
            here = (*place, key)
            if key not in known:
                self._say(here, f'unknown key "{shown_key(key)}"{_in(place)}{_elsewhere(key, of)}', nearest(key, known))
                continue
            member = known[key][1]
            if isinstance(member, Section):
                if isinstance(raw, dict):
                    found[key] = self._section(member.type, raw, here)
                else:
                    self._say(here, f'"{key}" must be a table, like [{_dotted(here)}], not {shown(raw)}')
            elif isinstance(member, Tables):
                if isinstance(raw, list) and all(isinstance(item, dict) for item in raw):
                    found[key] = [self._section(member.type, item, (*here, at)) for at, item in enumerate(raw)]
                    for at, item in enumerate(found[key]):
                        item[""] = Found(None, self._origin((*here, at)))
                else:
                    self._say(here, f'"{key}" must be an array of tables, like [[{_dotted(here)}]]')
            else:
                self._setting(member, key, raw, here, found)
        return found

    def _setting(self, member: Setting, key: str, raw: object, here: Place, found: Values) -> None:
        try:
            found[key] = Found(member.kind.read(raw), self._origin(here))
        except ValueError:
            at = next((i for i, item in enumerate(raw) if not _reads(member, [item])), None) \
                if isinstance(raw, list) else None
            wrong = raw if at is None or not isinstance(raw, list) else raw[at]
            self._say(here if at is None else (*here, at), must_be(key, member, wrong), near_word(member, raw))

    def _origin(self, place: Place) -> Origin:
        while place and place not in self._lines:
            place = place[:-1]
        return Origin(self._file, self._lines.get(place, 1))

    def _say(self, place: Place, message: str, suggestion: str | None = None) -> None:
        self._problems.append(Problem(self._origin(place), _dotted(place), message, suggestion))


def _add(values: Values, more: Values) -> None:
    """Later wins; arrays of tables add up."""
    for key, new in more.items():
        old = values.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            _add(old, new)
        elif isinstance(new, list) and isinstance(old, list):
            old.extend(new)
        else:
            values[key] = new


def _build(of: type, values: Values, prefix: str, origins: dict[str, Origin], problems: list[Problem]) -> Any:
    """An instance, with the default where there is no value; notes origins, and what the whole objects to."""
    arguments: dict[str, Any] = {}
    before = len(problems)
    for key, (attribute, member) in members(of).items():
        found = values.get(key)
        dotted = prefix + key
        if isinstance(member, Section):
            arguments[attribute] = _build(member.type, found or {}, f"{dotted}.", origins, problems)
        elif isinstance(member, Tables):
            arguments[attribute] = tuple(
                _table(member.type, inner, f"{dotted}[{at}]", origins, problems)
                for at, inner in enumerate(found or ()))
        else:
            origins[dotted] = found.origin if found else DEFAULT
            if found:
                arguments[attribute] = found.value
    built = of(**arguments)
    clean = len(problems) == before and not any(p.key.startswith(prefix.removesuffix(".")) for p in problems)
    for key, message in built.objections() if clean and hasattr(built, "objections") else ():
        dotted = prefix + key if key else prefix.removesuffix(".")
        problems.append(Problem(_stated(dotted, prefix, origins), dotted, f'"{key}" {message}' if key else message))
    return built


def _table(of: type, values: Values, dotted: str, origins: dict[str, Origin], problems: list[Problem]) -> Any:
    origins[dotted] = values[""].origin
    return _build(of, values, f"{dotted}.", origins, problems)


def _stated(dotted: str, prefix: str, origins: Mapping[str, Origin]) -> Origin:
    """Of what is objected to; of a default: its table, or what stands beside it and made it wrong."""
    beside = (key for key in origins if key.startswith(prefix))
    table = dotted.rpartition(".")[0] if not prefix.startswith(f"{dotted}.") else dotted
    places = (dotted, table, *beside)
    return next((o for o in map(origins.get, places) if o is not None and o != DEFAULT), DEFAULT)


def _reads(member: Setting, value: object) -> bool:
    try:
        member.kind.read(value)
    except ValueError:
        return False
    return True


def _elsewhere(key: str, of: type) -> str:
    """Where a key would be known that is unknown here."""
    places = [dotted for dotted, _ in settings() if dotted.rpartition(".")[2] == key]
    if len(places) != 1 or key in members(of):
        return ""
    table = places[0].rpartition(".")[0]
    return f": it belongs under [{table}]" if table else ": it belongs before the first table"


def _in(place: Place) -> str:
    if not place:
        return ""
    name = ".".join(str(part) for part in place if not isinstance(part, int))
    return f" in [[{name}]]" if isinstance(place[-1], int) else f" in [{name}]"


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{shown_key(part)}" if text else shown_key(part)
    return text
