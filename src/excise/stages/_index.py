"""From a frame to the rules that match it, the best one first. Each frame is looked up once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from excise.frames import Frame
from excise.stages._glob import (
    expand,
    file_matches,
    head,
    is_literal,
    literal,
    name_matches,
    normal_file,
    qualname_matches,
)
from excise.stages.rule import Rule

_Rank = tuple[int, int, int, int, int, int]
_Entry = tuple[_Rank, Rule, str, str]  # rank, rule, file glob, name glob
_MAX_FRAMES: Final = 200_000           # kept; about 100 bytes each
_INNER: Final = frozenset({"<lambda>", "<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>", "<locals>"})

Rules = tuple[Rule, ...]


class FrameIndex:
    def __init__(self, rules: Iterable[Rule]) -> None:
        self._anchored: dict[str, list[_Entry]] = {}  # by first component of the path
        self._floating: dict[str, list[_Entry]] = {}  # "**/app/x.py", by its first component
        self._anywhere: list[_Entry] = []
        self._native: list[_Entry] = []
        self._kernel_named: dict[str, list[_Entry]] = {}
        self._kernel: list[_Entry] = []
        self._names: list[_Entry] = []
        self._modules: dict[str, list[_Entry]] = {}
        self._known: dict[Frame, Rules] = {}
        self._by_name: dict[tuple[str, str, str], Rules] = {}
        for order, rule in enumerate(rules):
            self._add(order, rule)
        self._name_heads = tuple({head(entry[3]) for entry in self._names})

    def rules_of(self, frame: Frame) -> Rules:
        """Best first, up to the first one that has no conditions. A weak one comes behind all others."""
        known = self._known.get(frame)
        if known is None:
            key = (frame.kind, frame.file, frame.name)
            known = self._by_name.get(key)
            if known is None:
                known = self._by_name[key] = _best(self._matches(frame))
            if len(self._known) >= _MAX_FRAMES:
                self._known.clear()
                self._by_name.clear()
            self._known[frame] = known
        return known

    def _add(self, order: int, rule: Rule) -> None:
        for pattern in (p for text in rule.python for p in expand(text)):
            file, _, name = pattern.partition(":")
            file = normal_file(file)
            entry = (_rank(rule, file, name or "*", order), rule, file, name or "*")
            floating = file.startswith("**/")
            folder = (file[3:] if floating else file).partition("/")[0]
            if is_literal(folder):
                (self._floating if floating else self._anchored).setdefault(folder, []).append(entry)
            else:
                self._anywhere.append(entry)
        for pattern in (p for text in rule.native for p in expand(text)):
            file, _, name = pattern.partition(":")
            self._native.append((_rank(rule, file, name or "*", order), rule, file, name or "*"))
        for pattern in (p for text in rule.kernel for p in expand(text)):
            entry = (_rank(rule, "", pattern, order), rule, "", pattern)
            if is_literal(pattern):
                self._kernel_named.setdefault(pattern, []).append(entry)
            else:
                self._kernel.append(entry)
        for pattern in (p for text in rule.names for p in expand(text)):
            self._names.append((_rank(rule, "", pattern, order), rule, "", pattern))

    def _matches(self, frame: Frame) -> list[_Entry]:
        if frame.kind == "python":
            return self._python_matches(frame)
        if frame.kind == "kernel":
            name = frame.name.partition(" ")[0].partition(".")[0]  # without "[module]" and ".isra.0"
            return self._kernel_named.get(name, []) + [e for e in self._kernel if name_matches(e[3], name)]
        entries = self._modules.get(frame.file)
        if entries is None:
            path = normal_file(frame.file)
            base = path.rpartition("/")[2]
            entries = [e for e in self._native if file_matches(e[2], path if "/" in e[2] else base)]
            self._modules[frame.file] = entries
        return [e for e in entries if e[3] == "*" or name_matches(e[3], frame.name)]

    def _python_matches(self, frame: Frame) -> list[_Entry]:
        file = normal_file(frame.file)
        parts = file.split("/")
        near = [*self._anchored.get(parts[0], ()), *self._anywhere]
        if self._floating:
            near += [e for part in set(parts) for e in self._floating.get(part, ())]
        found = [e for e in near if (e[3] == "*" or qualname_matches(e[3], frame.name)) and file_matches(e[2], file)]
        name = next((p for p in reversed(frame.name.split(".")) if p not in _INNER), "")
        if not name.startswith(self._name_heads):
            return found
        return found + [e for e in self._names if name_matches(e[3], name)]


def _rank(rule: Rule, file: str, name: str, order: int) -> _Rank:
    """Priority, then who wrote it (the later layer wins), then how much the pattern knows, then the later rule."""
    named = literal(name)
    return (rule.priority, rule.layer, int(named > 0), literal(file), named, order)


def _best(entries: list[_Entry]) -> Rules:
    out: dict[str, Rule] = {}
    for entry in sorted(entries, key=lambda e: (e[1].level != "weak", e[0]), reverse=True):
        rule = entry[1]
        out.setdefault(rule.id, rule)
        if rule.when is None:
            break
    return tuple(out.values())
