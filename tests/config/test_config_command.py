"""`excise config check` and `excise config show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from excise.cli import cli
from excise_agent import cli as _with_config
from excise_agent.config import load_config

assert _with_config


def config(*words: str) -> Result:
    return CliRunner().invoke(cli, ["config", *words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("[agent]\nrate_hz = 7\n[[forward]]\ntls = { enabled = true }\n")
    return path


def test_a_good_file_is_said_to_be_good(file: Path) -> None:
    done = config("check", "--config", str(file))
    assert (done.exit_code, done.stdout) == (0, f"excise: the configuration is good ({file})\n")


def test_a_bad_file_ends_with_2_and_all_that_is_wrong_on_standard_error(file: Path) -> None:
    file.write_text("[agent]\nrate = 7\nwindow = 1\n")
    done = config("check", "--config", str(file))
    assert done.exit_code == 2 and done.stdout == ""
    assert [line.split(":")[2] for line in done.stderr.splitlines()] == ["2", "3"]
    found = json.loads(config("check", "--json", "--config", str(file)).stdout)
    assert found["ok"] is False
    assert [(p["line"], p["key"], p["suggestion"]) for p in found["problems"]] == [
        (2, "agent.rate", "rate_hz"), (3, "agent.window", None)]


def test_a_missing_file_is_one_problem_without_a_line(tmp_path: Path) -> None:
    done = config("check", "--json", "--config", str(tmp_path / "none.toml"))
    assert done.exit_code == 2
    assert [(p["line"], p["message"]) for p in json.loads(done.stdout)["problems"]] == [(None, "no such file")]


def test_what_is_shown_can_be_read_again_and_is_the_same(file: Path, tmp_path: Path) -> None:
    done = config("show", "--config", str(file), "--set", "log.level=debug")
    assert done.exit_code == 0
    assert f"rate_hz = 7  # {file}:2\n" in done.stdout
    assert 'level = "debug"  # command line\n' in done.stdout
    assert f"[[forward]]  # {file}:3\n" in done.stdout
    again = tmp_path / "again.toml"
    again.write_text(done.stdout)
    assert load_config(again) == load_config(file, {}, {"log.level": "debug"})


def test_the_json_has_numbers_and_origins(file: Path) -> None:
    found = json.loads(config("show", "--json", "--config", str(file)).stdout)
    assert found["agent.rate_hz"] == {"value": 7.0, "origin": f"{file}:2"}
    assert found["history.size"] == {"value": 200_000_000, "origin": "default"}
    assert found["forward[0].tls.enabled"]["value"] is True


def test_a_bad_file_is_not_shown(file: Path) -> None:
    file.write_text("x = 1\ny = 2\n")
    done = config("show", "--config", str(file))
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [f'excise: {file}:1: unknown key "x"', f'excise: {file}:2: unknown key "y"']


def test_a_word_that_sets_nothing_is_refused() -> None:
    done = config("show", "--set", "agent.rate_hz")
    assert done.exit_code == 2 and "KEY=VALUE" in done.stderr
