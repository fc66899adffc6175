"""A rules file that cannot be used is refused with file, line and the nearest valid word; a good one wins."""

# ruff: noqa: E501 - a stack, or a case, is one line

from __future__ import annotations

from pathlib import Path

import pytest

from excise.stages import Rules, RulesError, Verdict, parse_example

GOOD = '''[defaults]
stage = "preprocess"

[[rule]]
id = "mine.shape"
why = "Ours."
python = [
  "**/app/shape.py",
  "mine/**:Shape.*",
]
'''


def load(path: Path, text: str) -> Rules:
    path.write_text(text)
    return Rules.load([path], system_dir=None)


def verdict(rules: Rules, text: str) -> Verdict:
    example = parse_example(text)
    return rules.attribute(example.frames, example.wait, example.thread)


@pytest.mark.parametrize(("old", "new", "line", "message", "suggestion"), [
    ('"preprocess"', '"preproces"', 2, '[defaults]: unknown stage "preproces"', "preprocess"),
    ('why = "Ours."', 'why = "Ours."\nlevl = "generic"', 7, 'rule "mine.shape": unknown key "levl"', "level"),
    ('why = "Ours."', 'why = "Ours."\nlevel = "generik"', 7, 'rule "mine.shape": unknown level "generik"', "generic"),
    ('why = "Ours."', 'why = "Ours."\nstates = [\n "net",\n "loc"]', 9, 'rule "mine.shape": unknown state "loc"', "lock"),
    ('why = "Ours."', 'why = "Ours."\nsyscalls = ["reed"]', 7, 'rule "mine.shape": unknown syscall "reed"', "read"),
    ('why = "Ours."', 'why = "Ours."\nfd_classes = ["socket"]', 7, 'rule "mine.shape": unknown descriptor class "socket"', None),
    ('why = "Ours."', 'why = "Ours."\ninherit = "yes"', 7, "rule \"mine.shape\": \"inherit\" must be true or false, not 'yes'", None),
    ('why = "Ours."', 'why = "Ours."\nfds = ["1"]', 7, "rule \"mine.shape\": \"fds\" must be a list of whole numbers, not ['1']", None),
    ('why = "Ours."', 'why = "Ours."\nnames = ["f*"]', 7, 'rule "mine.shape": "names" is the weakest evidence: level must be "weak"', "weak"),
    ('why = "Ours."', 'why = "Ours."\nstage = "idle"', 4, 'rule "mine.shape": idle is a wait: it needs "states", without "running"', None),
    ('why = "Ours."', 'why = "Ours."\nsubstage = "compute.gpu"', 7, 'rule "mine.shape": substage "compute.gpu" is not of stage "preprocess"', None),
    ('why = "Ours."', 'why = "Ours."\nlevel = "neutral"\nstage = "serving"', 8, 'rule "mine.shape": a neutral rule decides nothing and has no stage', None),
    ('why = "Ours."\n', "", 4, 'rule "mine.shape": "why" is missing', None),
    ('id = "mine.shape"\n', "", 4, 'rule "number 1": "id" is missing', None),
    ("[[rule]]", "[[rules]]", 4, 'unknown table "rules"', "rule"),
    ('"Ours."', '"Ours.', 6, "is not TOML: Illegal character '\\n'", None),
])
def test_a_broken_file_is_refused_where_it_is_broken(
        tmp_path: Path, old: str, new: str, line: int, message: str, suggestion: str | None) -> None:
    with pytest.raises(RulesError) as raised:
        load(tmp_path / "mine.toml", GOOD.replace(old, new))
    error = raised.value
    assert (error.file, error.line, error.suggestion) == (tmp_path / "mine.toml", line, suggestion)
    assert error.message.endswith(message)
    hint = f'; did you mean "{suggestion}"?' if suggestion else ""
    assert str(error) == f"{tmp_path}/mine.toml:{line}: {error.message}{hint}"


def test_a_rule_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r'mine\.toml:3: rule "a\.b": matches nothing'):
        load(tmp_path / "mine.toml", '# mine\n\n[[rule]]\nid = "a.b"\nstage = "serving"\nwhy = "No."\n')


def test_the_line_is_that_of_the_right_rule(tmp_path: Path) -> None:
    second = '\n[[rule]]\nid = "mine.two"\nwhy = "Ours."\nstage = "servin"\npython = ["x.py"]\n'
    with pytest.raises(RulesError, match=r'mine\.toml:15: rule "mine\.two": unknown stage "servin"; did you mean "serving"\?'):
        load(tmp_path / "mine.toml", GOOD + second)


def test_an_id_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r'mine\.toml:13: rule "mine\.shape": this id is taken'):
        load(tmp_path / "mine.toml", GOOD + '\n[[rule]]\nid = "mine.shape"\nwhy = "Again."\npython = ["x.py"]\n')


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"gone\.toml: cannot be read: No such file"):
        Rules.load([tmp_path / "gone.toml"], system_dir=None)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RulesError, match=r"bytes\.toml: is not UTF-8 text"):
        Rules.load([tmp_path / "bytes.toml"], system_dir=None)


def test_a_users_rule_speaks_for_its_code(tmp_path: Path) -> None:
    rules = load(tmp_path / "mine.toml", GOOD)
    assert verdict(rules, "/srv/app/shape.py:f < app.py:main").rule == "mine.shape"
    assert verdict(rules, "mine/x/y.py:Shape.run < app.py:main").rule == "mine.shape"
    assert verdict(rules, "mine/x/y.py:Other.run < app.py:main").rule == ""


def test_a_users_rule_wins_over_a_built_in_one(tmp_path: Path) -> None:
    mine = '[[rule]]\nid = "mine.pil"\nwhy = "Ours."\nstage = "postprocess"\npython = ["PIL/**"]\n'
    rules = load(tmp_path / "mine.toml", mine)
    assert verdict(rules, "PIL/ImageFile.py:_encode_tile < app.py:f").rule == "mine.pil"


def test_a_users_rule_may_replace_a_built_in_one(tmp_path: Path) -> None:
    mine = '[[rule]]\nid = "pil.image"\nwhy = "Ours."\nstage = "compute"\npython = ["PIL/Image.py:Image.resize"]\n'
    rules = load(tmp_path / "mine.toml", mine)
    assert verdict(rules, "PIL/Image.py:Image.resize < app.py:f").stage == "compute"
    assert verdict(rules, "PIL/Image.py:Image.convert < app.py:f").reason == "no_rule"


def test_later_files_win_and_the_systems_come_before_the_projects(tmp_path: Path) -> None:
    system = tmp_path / "stages.d"
    system.mkdir()
    stages = ("logging", "serving", "runtime", "postprocess")
    paths = [system / "a.toml", system / "b.toml", tmp_path / "one.toml", tmp_path / "two.toml"]
    for path, stage in zip(paths, stages, strict=True):
        path.write_text(f'[[rule]]\nid = "x.{stage}"\nwhy = "Ours."\nstage = "{stage}"\npython = ["x.py"]\n')
    for count, stage in ((0, "serving"), (1, "runtime"), (2, "postprocess")):
        rules = Rules.load(paths[2 : 2 + count], system_dir=system)
        assert verdict(rules, "x.py:f").stage == stage
    assert verdict(Rules.load(system_dir=tmp_path / "none"), "x.py:f").reason == "no_rule"


def test_a_priority_wins_over_all_else(tmp_path: Path) -> None:
    text = '''
[[rule]]
id = "a.wide"
why = "Ours."
stage = "logging"
priority = 5
python = ["x/**"]

[[rule]]
id = "a.narrow"
why = "Ours."
stage = "serving"
python = ["x/y.py:f"]
'''
    assert verdict(load(tmp_path / "mine.toml", text), "x/y.py:f").stage == "logging"
    assert verdict(load(tmp_path / "mine.toml", text.replace("priority = 5", "")), "x/y.py:f").stage == "serving"


def test_conditions_name_threads_and_processes(tmp_path: Path) -> None:
    text = '''
[[rule]]
id = "a.shipper"
why = "Ours."
stage = "logging"
thread = ["shipper-*"]
level = "weak"
'''
    rules = load(tmp_path / "mine.toml", text)
    assert verdict(rules, "app.py:f @ thread=shipper-3").stage == "logging"
    assert verdict(rules, "app.py:f @ thread=other").reason == "no_rule"
    assert verdict(rules, "PIL/Image.py:f < app.py:f @ thread=shipper-3").stage == "preprocess"
