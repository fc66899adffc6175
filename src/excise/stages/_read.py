"""Reads a rules file. Whatever is wrong with it is a RulesError that names the line and the nearest valid word."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from excise.names import FD_CLASSES, STAGES, SUBSTAGES
from excise.stages.errors import RulesError, nearest
from excise.stages.rule import LEVELS, WAITS, Conditions, Level, Rule
from excise.syscalls import NAMES as SYSCALLS
from excise.toml_lines import Place, TomlError, lines_of, parse_toml

PAGE_FAULT: Final = "page_fault"
"""Stands among `syscalls` for a wait that none was made for."""

_MATCHERS: Final = ("python", "native", "kernel", "names")
_KINDS: Final[dict[str, type]] = {
    "id": str, "stage": str, "substage": str, "level": str, "why": str, "priority": int,
    "inherit": bool, "inbound": bool, "main_thread": bool, "interpreter": bool, "top_level": bool,
    "claims": list, "states": list, "syscalls": list, "fd_classes": list, "fds": list, "thread": list,
    "example": list, **dict.fromkeys(_MATCHERS, list),
}
_DEFAULTS: Final = tuple(k for k in _KINDS if k not in ("id", "why", "example", *_MATCHERS))
_WORDS: Final[dict[str, Collection[str]]] = {
    "stage": [s for s in STAGES if s != "unattributed"],
    "substage": SUBSTAGES,
    "level": LEVELS,
    "states": ["running", "waiting", *sorted(WAITS)],
    "syscalls": {*SYSCALLS, PAGE_FAULT} - {"-"},
    "fd_classes": FD_CLASSES,
}
_TYPE_NAMES: Final[dict[type, str]] = {str: "a text", int: "a whole number", bool: "true or false",
                                       list: "a list of texts"}


def read_rules(path: Path, layer: int) -> Iterator[tuple[Rule, Callable[[], int]]]:
    """Each rule with a way to find its line. Raises RulesError."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise RulesError(path, 0, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RulesError(path, 0, "is not UTF-8 text") from error
    try:
        table = parse_toml(text)
    except TomlError as error:
        raise RulesError(path, error.line, f"is not TOML: {error.message}") from error
    yield from _Reader(path, text, layer).rules(table)


class _Reader:
    def __init__(self, path: Path, text: str, layer: int) -> None:
        self._path, self._text, self._layer = path, text, layer
        self._lines: dict[Place, int] | None = None  # found when they are asked for
        self._at: int | None = None  # of the rule that is read; None: the defaults
        self._name = "[defaults]"

    def rules(self, table: dict[str, Any]) -> Iterator[tuple[Rule, Callable[[], int]]]:
        for key in table:
            if key not in ("defaults", "rule"):
                self._fail(f'unknown table "{key}"', nearest(key, ("defaults", "rule")), key)
        defaults, rules = table.get("defaults", {}), table.get("rule", [])
        if not isinstance(defaults, dict):
            self._fail('"defaults" must be a table: [defaults]', None, "defaults")
        if not isinstance(rules, list) or not all(isinstance(r, dict) for r in rules):
            self._fail('"rule" must be a list of tables: [[rule]]', None, "rule")
        self._check(defaults, _DEFAULTS)
        for at, values in enumerate(rules):
            self._at = at
            self._name = f'rule "{values.get("id", f"number {at + 1}")}"'
            self._check(values, _KINDS)
            yield self._rule(values, defaults), lambda at=at: self._line("id", None, at)  # type: ignore[misc]

    def _rule(self, own: dict[str, Any], defaults: dict[str, Any]) -> Rule:
        values = defaults | own
        level = values.get("level", "specific")
        if level in ("neutral", "boundary"):
            for key in ("stage", "substage"):
                if key in own:
                    self._fail(f"a {level} rule decides nothing and has no {key}", None, key)
                values.pop(key, None)
        for key in ("id", "why") if level in ("neutral", "boundary") else ("id", "stage", "why"):
            if not values.get(key):
                self._fail(f'"{key}" is missing')
        stage, substage = values.get("stage", ""), values.get("substage")
        if substage and substage.partition(".")[0] != stage:
            if "substage" in own:
                self._fail(f'substage "{substage}" is not of stage "{stage}"', None, "substage")
            substage = None
        if any(level != "weak" for _ in own.get("names", ())):
            self._fail('"names" is the weakest evidence: level must be "weak"', "weak", "names")
        when = self._conditions(values, stage)
        if when is None and not any(values.get(k) for k in _MATCHERS):
            self._fail(f"matches nothing: it needs one of {', '.join(_MATCHERS)}, or a condition on the wait")
        return Rule(
            id=values["id"], level=cast(Level, level), stage=stage, why=values["why"], substage=substage,
            python=_texts(values, "python"), native=_texts(values, "native"), kernel=_texts(values, "kernel"),
            names=_texts(values, "names"), inherit=values.get("inherit", False), claims=_texts(values, "claims"),
            when=when, priority=values.get("priority", 0), layer=self._layer, examples=_texts(values, "example"),
            file=str(self._path))

    def _conditions(self, values: dict[str, Any], stage: str) -> Conditions | None:
        states = _set(values, "states")
        if states is not None and "waiting" in states:
            states = (states - {"waiting"}) | WAITS
        if states == WAITS | {"running"}:
            states = None
        elif states is None and any(values.get(k) is not None for k in ("syscalls", "fd_classes", "fds", "inbound")):
            states = WAITS
        if stage == "idle" and (states is None or "running" in states):
            self._fail('idle is a wait: it needs "states", without "running"', None, "states")
        syscalls = _set(values, "syscalls")
        if syscalls is not None:
            syscalls = frozenset("" if name == PAGE_FAULT else name for name in syscalls)
        fds = values.get("fds")
        when = Conditions(
            states=states, syscalls=syscalls, fd_classes=_set(values, "fd_classes"),
            fds=None if fds is None else frozenset(fds), inbound=values.get("inbound"),
            thread=_texts(values, "thread") or None, main_thread=values.get("main_thread"),
            interpreter=values.get("interpreter"), top_level=values.get("top_level"))
        return None if when == Conditions() else when

    def _check(self, values: dict[str, Any], valid: Collection[str]) -> None:
        for key, value in values.items():
            if key not in valid:
                self._fail(f'unknown key "{key}"', nearest(key, valid), key)
            kind = _KINDS[key]
            items: list[Any] = value if isinstance(value, list) else [value]
            element = int if key == "fds" else str if kind is list else kind
            right = (kind is list or not isinstance(value, list)) and all(type(i) is element for i in items)
            if not right:
                wanted = "a list of whole numbers" if key == "fds" else _TYPE_NAMES[kind]
                self._fail(f'"{key}" must be {wanted}, not {value!r}', None, key)
            if kind is list:
                values[key] = items
            words = _WORDS.get(key)
            for at, item in enumerate(items if words is not None else ()):
                if item not in words:  # type: ignore[operator]
                    what = {"states": "state", "syscalls": "syscall", "fd_classes": "descriptor class"}.get(key, key)
                    self._fail(f'unknown {what} "{item}"', nearest(item, words or ()), key, at)

    def _fail(self, message: str, suggestion: str | None = None, key: str | None = None,
              element: int | None = None) -> NoReturn:
        raise RulesError(self._path, self._line(key, element, self._at), f"{self._name}: {message}", suggestion)

    def _line(self, key: str | None, element: int | None, at: int | None) -> int:
        """Of the element, or else the key, or else the table; of a default's value, where it is used."""
        if self._lines is None:
            self._lines = lines_of(self._text)
        table: Place = ("defaults",) if at is None else ("rule", at)
        places: list[Place] = [table]
        if key is not None:
            places = [(*table, key), (key,), table]
        if key is not None and element is not None:
            places.insert(0, (*table, key, element))
        return next((self._lines[place] for place in places if place in self._lines), 1)


def _texts(values: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(values.get(key, ()))


def _set(values: dict[str, Any], key: str) -> frozenset[str] | None:
    found = values.get(key)
    return None if found is None else frozenset(found)
