"""Every rule that is built in says why it is there, and decides its own examples."""

from __future__ import annotations

import pytest

from excise.stages import Rule, Rules, failures, parse_example

RULES = Rules.load(system_dir=None)


@pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.id)
def test_a_rule_decides_its_examples(rule: Rule) -> None:
    assert rule.examples, "an example shows what the rule is for"
    assert rule.why.endswith(".")
    assert failures(RULES, [rule]) == []


@pytest.mark.parametrize("rule", [r for r in RULES if r.stage], ids=lambda rule: rule.id)
def test_a_rule_gives_the_stage_that_it_names(rule: Rule) -> None:
    for text in rule.examples:
        example = parse_example(text)
        verdict = RULES.attribute(example.frames, example.wait, example.thread)
        assert (verdict.stage, verdict.substage, verdict.reason) == (rule.stage, rule.substage, None)


@pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.id)
def test_a_claim_meets_a_rule_that_can_be_claimed(rule: Rule) -> None:
    from fnmatch import fnmatchcase

    ids = [other.id for other in RULES if other.level == "generic"]
    for glob in rule.claims:
        assert any(fnmatchcase(name, glob.removeprefix("!")) for name in ids), f"{glob} is no generic rule"


def test_a_word_that_says_nothing_is_refused_in_an_example() -> None:
    with pytest.raises(ValueError, match=r"\"netto\" in .* is no state"):
        parse_example("app.py:f @ netto")
