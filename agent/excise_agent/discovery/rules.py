"""The configured rules: the first that matches a process decides."""

from __future__ import annotations

from fnmatch import fnmatchcase

from excise_agent.config.schema import WorkloadRule
from excise_agent.discovery.subject import Subject


class Rules:
    """A rule that asks for nothing matches nothing."""

    def __init__(self, rules: tuple[WorkloadRule, ...]) -> None:
        self._rules = rules

    def __bool__(self) -> bool:
        return bool(self._rules)

    def decide(self, subject: Subject) -> int | None:
        """The rule's index; None: no rule matches."""
        for index, rule in enumerate(self._rules):
            if _matches(rule, subject):
                return index
        return None

    def ignores(self, index: int) -> bool:
        return self._rules[index].ignore

    def name(self, index: int) -> str:
        """ "": it names nothing."""
        return self._rules[index].name

    def sentence(self, index: int) -> str:
        name = self.name(index)
        return f"rule '{name}' in the configuration" if name else f"workload rule {index + 1} in the configuration"


def _matches(rule: WorkloadRule, subject: Subject) -> bool:
    """The cheap questions come first."""
    asked = False
    if rule.unit:
        asked = True
        if not subject.place.unit or not fnmatchcase(subject.place.unit, rule.unit):
            return False
    if rule.container:
        asked = True
        if not any(fnmatchcase(name, rule.container) for name in subject.place.containers):
            return False
    if rule.cgroup:
        asked = True
        if not any(fnmatchcase(path, rule.cgroup) for path in subject.place.paths):
            return False
    if rule.user:
        asked = True
        if not any(fnmatchcase(name, rule.user) for name in subject.users):
            return False
    if rule.command:
        asked = True
        if not any(fnmatchcase(name, rule.command) for name in subject.commands):
            return False
    return asked
