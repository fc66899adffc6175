"""Root may write a report where others can write: what they put there is neither followed nor filled."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from excise.cli import CliError, write_text

MALLORY = 65534
VICTIM = "root:x:0:0\n"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """As /tmp is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chmod(folder, 0o1777)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text(VICTIM)
    return path


def refused(path: Path) -> str:
    with pytest.raises(CliError) as error:
        write_text(str(path), "a report")
    return error.value.format_message()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "pipe"])
def test_what_another_user_has_put_there_is_refused_and_left_alone(kind: str, shared: Path, victim: Path) -> None:
    path = shared / "flame.html"
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "dangling link":
        path.symlink_to(victim.with_name("new"))
    elif kind == "file":
        path.write_text("mine")
    else:
        os.mkfifo(path)
    os.chown(path, MALLORY, MALLORY, follow_symlinks=False)
    assert f"it is user {MALLORY}'s" in refused(path) and str(path) in refused(path)
    assert victim.read_text() == VICTIM and not victim.with_name("new").exists()
    assert kind != "file" or path.read_text() == "mine"


def test_a_hard_link_there_is_refused(shared: Path, victim: Path) -> None:
    os.link(victim, shared / "flame.html")
    assert "hard links" in refused(shared / "flame.html")
    assert victim.read_text() == VICTIM


def test_a_link_where_it_could_be_exchanged_is_refused(shared: Path, victim: Path) -> None:
    os.chmod(shared, 0o777)
    (shared / "flame.html").symlink_to(victim)
    assert "it is a link" in refused(shared / "flame.html")
    assert victim.read_text() == VICTIM


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_links_and_files_of_ones_own_are_written(mode: int, shared: Path, tmp_path: Path) -> None:
    os.chmod(shared, mode)
    target = tmp_path / "target"
    (shared / "link").symlink_to(target)
    for _ in range(2):
        write_text(str(shared / "link"), "a long report")
        write_text(str(shared / "link"), "a report")
        write_text(str(shared / "file"), "a long report")
        write_text(str(shared / "file"), "a report")
        assert target.read_text() == (shared / "file").read_text() == "a report"
    assert (shared / "file").stat().st_mode & 0o777 == 0o644


def test_a_pipe_of_ones_own_and_the_null_device_are_written(shared: Path) -> None:
    os.mkfifo(shared / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((shared / "pipe").read_text()))
    reader.start()
    write_text(str(shared / "pipe"), "a report")
    reader.join()
    assert read == ["a report"]
    write_text("/dev/null", "a report")


@pytest.mark.parametrize("where", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", ">(cat)"])
def test_descriptors_and_pipes_of_the_shell_are_written(where: str) -> None:
    python = "import sys; sys.path[:0] = sys.argv[2].split(':'); from excise.cli import write_text; "
    python += "write_text(sys.argv[1], 'a report')"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {where} "$2" | cat', sys.executable, python, ":".join(sys.path)],
        capture_output=True, text=True, check=True)
    assert done.stdout == "a report", done.stderr
