"""Which files of configuration are read, and which are not trusted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent.config import Config, ConfigError, load
from excise_agent.config.files import MAX_BYTES, is_privileged

NOBODY = 65534


def said(path: Path, privileged: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, privileged=privileged)
    return str(caught.value)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("")
    path.chmod(0o644)
    return path


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Other users can look into it, which pytest's own folders forbid."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_that_anyone_can_write_is_refused_with_privileges_alone(config: Path) -> None:
    config.chmod(0o666)
    assert said(config, privileged=True) == f"{config}: anyone can write to it: chmod o-w"
    assert load(config, privileged=False).config == Config()


def test_a_folder_that_anyone_can_write_is_refused(config: Path) -> None:
    (config.parent / "conf.d").mkdir()
    (config.parent / "conf.d").chmod(0o777)
    assert said(config, privileged=True) == f"{config.parent}/conf.d: anyone can write to it: chmod o-w"


@pytest.mark.root
def test_a_file_of_another_user_beside_ours_is_refused(config: Path) -> None:
    folder = config.parent / "conf.d"
    folder.mkdir()
    (folder / "1.toml").write_text("")
    os.chown(folder / "1.toml", NOBODY, NOBODY)
    assert "belongs to user 65534, who is neither root nor this user: chown root" in said(config, privileged=True)
    os.chown(config, NOBODY, NOBODY)  # the owner of the file that was named may add to it
    assert load(config, privileged=True).config == Config()


def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    assert said(tmp_path / "config.toml").endswith("is not a regular file")


def test_a_link_is_followed_as_mounted_configurations_are_links(config: Path) -> None:
    config.write_text("[agent]\nrate_hz = 3\n")
    (config.parent / "link.toml").symlink_to(config)
    assert load(config.parent / "link.toml", privileged=True).config.agent.rate_hz == 3


def test_a_huge_file_is_refused(config: Path) -> None:
    config.write_text("#" * (MAX_BYTES + 1))
    assert "too large for a configuration" in said(config)


def test_a_file_that_is_no_text_is_refused_with_its_line(config: Path) -> None:
    config.write_bytes(b"# a\n# \xff\n")
    assert said(config) == f"{config}: is not UTF-8 text (line 2)"


@pytest.mark.root
def test_a_file_that_may_not_be_read_is_said_to_a_real_user(open_folder: Path) -> None:
    config = open_folder / "config.toml"
    config.touch(0o600)
    os.seteuid(NOBODY)  # takes root's capabilities with it
    try:
        assert said(config) == f"{config}: cannot be read: Permission denied"
    finally:
        os.seteuid(0)


def test_privileges_are_root_or_any_capability(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("CapEff:\t0000000000080000\n")
    assert is_privileged(status)
    status.write_text("CapEff:\t0000000000000000\n")
    assert is_privileged(status) is (os.geteuid() == 0)
