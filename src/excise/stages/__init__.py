"""Which stage a stack belongs to. Rules are data: packs/*.toml, /etc/excise/stages.d, a project's own file."""

from excise.stages.engine import SYSTEM_DIR, Rules
from excise.stages.errors import RulesError
from excise.stages.examples import Example, failures, parse_example
from excise.stages.rule import Rule, ThreadContext, Verdict, Wait

__all__ = [
    "SYSTEM_DIR", "Example", "Rule", "Rules", "RulesError", "ThreadContext", "Verdict", "Wait", "failures",
    "parse_example",
]
