"""The default file and the page say what the schema says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from excise_agent.config import Config, load_config
from excise_agent.config.document import DEFAULT_CONFIG, PAGE, default_toml, page
from excise_agent.config.schema import ClickHouseConfig, DiscoveryConfig, ForwardConfig, WorkloadRule

COMMENT = re.compile(r"# (?! )")  # "#key = 1" and "#  an element," are what can be uncommented


def uncommented(text: str) -> str:
    return "".join(line if COMMENT.match(line) or line == "#\n" else line.removeprefix("#")
                   for line in text.splitlines(keepends=True))


def parts() -> tuple[str, list[str]]:
    """The keys, and the blocks that can stand more than once."""
    head, blocks = default_toml().split("# What follows can stand here more than once", 1)
    return head, re.split(r"(?m)^(?=#\[\[)", blocks)[1:]


def read(tmp_path: Path, text: str) -> Config:
    (tmp_path / "config.toml").write_text(text)
    return load_config(tmp_path / "config.toml")


def test_the_files_are_as_the_schema_has_them() -> None:
    assert DEFAULT_CONFIG.read_text() == default_toml(), "run: python -m excise_agent.config.document"
    assert PAGE.read_text() == page(PAGE.read_text()), "run: python -m excise_agent.config.document"


def test_the_default_file_is_the_default() -> None:
    assert load_config(DEFAULT_CONFIG) == Config()


def test_the_default_file_with_its_keys_uncommented_is_the_default(tmp_path: Path) -> None:
    text = uncommented(parts()[0])
    assert "\nrate_hz = 19\n" in text and '\n  "libcuda.so*",\n' in text
    assert read(tmp_path, text) == Config()


@pytest.mark.parametrize(("block", "config"), [
    (0, Config(discovery=DiscoveryConfig(workloads=(WorkloadRule(name="chat", command="vllm*"),)))),
    (1, Config(forward=(ForwardConfig(),))),
    (2, Config(clickhouse=(ClickHouseConfig(),))),
])
def test_a_block_uncommented_is_what_it_shows(tmp_path: Path, block: int, config: Config) -> None:
    assert len(parts()[1]) == 3
    assert read(tmp_path, uncommented(parts()[1][block])) == config


def test_every_key_stands_in_the_file_and_on_the_page() -> None:
    written = set(re.findall(r"(?m)^#(\w+) = ", default_toml()))
    on_page = set(re.findall(r"(?m)^\| `(\w+)`", PAGE.read_text()))

    def keys(of: type) -> set[str]:
        found = set()
        for field in dataclasses.fields(of):
            inner = getattr(field.metadata["member"], "type", None)
            found |= keys(inner) if inner else {field.metadata["key"] or field.name}
        return found

    assert written == on_page == keys(Config)


def test_no_line_of_the_file_is_too_long_for_a_terminal() -> None:
    assert max(map(len, default_toml().splitlines())) <= 120
