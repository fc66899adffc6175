"""Names the stage of a stack: the innermost frame that a rule knows decides, callers break ties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from excise.frames import Frame
from excise.names import KERNEL_STATES
from excise.stages._index import FrameIndex
from excise.stages._read import read_rules
from excise.stages.errors import RulesError
from excise.stages.rule import AS_IF_RUNNING, Rule, ThreadContext, Verdict, Wait

PACKS: Final = Path(__file__).parent / "packs"
SYSTEM_DIR: Final = Path("/etc/excise/stages.d")

NO_RULE: Final = Verdict("unattributed", reason="no_rule")
NO_STACK: Final = Verdict("unattributed", reason="no_stack")

_INLINE: Final = frozenset({"<lambda>", "<listcomp>", "<genexpr>", "<setcomp>", "<dictcomp>"})


class Rules:
    """A set of rules, compiled. Not thread-safe: it remembers frames."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._index = FrameIndex(self._rules.values())
        evidence = sorted((r for r in self._rules.values() if not r.has_frames),
                          key=lambda r: (r.level != "weak", r.priority, r.layer), reverse=True)
        self._evidence: dict[str, list[Rule]] = {
            state: [r for r in evidence if r.when and (r.when.states is None or state in r.when.states)]
            for state in KERNEL_STATES
        }
        self._claimed: dict[tuple[str, str], bool] = {}

    @classmethod
    def load(cls, extra: Sequence[Path] = (), system_dir: Path | None = SYSTEM_DIR) -> Rules:
        """Built-in packs, then every *.toml of `system_dir` (if it is there), then `extra`: the later wins, and may
        replace a rule by its id. Raises RulesError."""
        rules = {rule.id: rule for rule in _unique(sorted(PACKS.glob("*.toml")), layer=0)}
        if system_dir is not None:
            rules |= {rule.id: rule for rule in _unique(sorted(system_dir.glob("*.toml")), layer=1)}
        for layer, path in enumerate(extra, start=2):
            rules |= {rule.id: rule for rule in _unique([path], layer)}
        return cls(list(rules.values()))

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def __getitem__(self, rule_id: str) -> Rule:
        return self._rules[rule_id]

    def attribute(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Verdict:
        """The stage of a stack, leaf first, while it ran (`wait` None) or waited. Never raises."""
        if wait is not None and wait.state in AS_IF_RUNNING:
            wait = None
        bare = all(frame.kind == "kernel" for frame in frames)
        if bare and thread.python and thread.carrier:
            return NO_STACK
        decided = self._decide(frames, wait, thread)
        if decided is not None:
            return decided.verdict
        return NO_STACK if bare else NO_RULE

    def _decide(self, frames: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> Rule | None:
        candidate: Rule | None = None
        weak: Rule | None = None
        for rule in self._evidence.get("running" if wait is None else wait.state, ()):
            if rule.when is not None and rule.when.hold(wait, thread):
                if rule.level == "specific":
                    return rule
                if rule.level == "weak":
                    weak = rule
                else:
                    candidate = rule
                break
        unknown = False  # code that no rule knows lies between here and the candidate, or the leaf
        for at, frame in enumerate(frames):
            rule_here = self._rule_of(frame, wait, thread, frames, at)
            if rule_here is None or rule_here.level == "weak":
                if rule_here is not None and (weak is None or rule_here.priority > weak.priority):
                    weak = rule_here
                if frame.kind == "python" and not _is_inline(frames, at):
                    unknown = True
                continue
            level = rule_here.level
            if level == "neutral":
                continue
            if level == "boundary":
                break
            if unknown and not rule_here.inherit:
                if level == "specific":
                    break
                continue
            if candidate is None or self._claims(rule_here, candidate):
                candidate, unknown = rule_here, False
            if level == "specific":
                break
        return candidate or weak

    def _rule_of(self, frame: Frame, wait: Wait | None, thread: ThreadContext, frames: Sequence[Frame],
                 at: int) -> Rule | None:
        for rule in self._index.rules_of(frame):
            when = rule.when
            if when is None or (when.hold(wait, thread)
                                and (when.top_level is None
                                     or when.top_level is self._is_top_level(frames[at + 1 :], wait, thread))):
                return rule
        return None

    def _is_top_level(self, callers: Sequence[Frame], wait: Wait | None, thread: ThreadContext) -> bool:
        for frame in callers:
            for rule in self._index.rules_of(frame):
                if rule.when is not None and (rule.when.top_level or not rule.when.hold(wait, thread)):
                    continue
                if rule.level == "boundary":
                    return True
                if rule.level in ("specific", "generic"):
                    return False
        return True

    def _claims(self, rule: Rule, candidate: Rule) -> bool:
        if not rule.claims:
            return False
        key = (rule.id, candidate.id)
        known = self._claimed.get(key)
        if known is None:
            known = self._claimed[key] = rule.claims_from(candidate)
        return known


def _is_inline(frames: Sequence[Frame], at: int) -> bool:
    """A lambda or comprehension that runs in the file that it was written in is part of its caller."""
    return frames[at].name in _INLINE and at + 1 < len(frames) and frames[at + 1].file == frames[at].file


def _unique(paths: Sequence[Path], layer: int) -> list[Rule]:
    """The rules of some files, of which no two may share an id."""
    seen: dict[str, Rule] = {}
    for path in paths:
        for rule, line in read_rules(path, layer):
            if rule.id in seen:
                raise RulesError(path, line(), f'rule "{rule.id}": this id is taken, in {seen[rule.id].file}')
            seen[rule.id] = rule
    return list(seen.values())
