"""Fake process directories: /proc/PID/root is a plain directory here, which resolves the same way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise_agent import safe_open
from excise_agent.safe_open import Identity, Opened, Refused, open_in_root


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/7/root/lib").mkdir(parents=True)
    (tmp_path / "proc/7/root/lib/a.so").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    return tmp_path / "proc"


@pytest.fixture(params=["openat2", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    missing = threading.Event()
    if request.param == "walk":
        missing.set()
    monkeypatch.setattr(safe_open, "_openat2_missing", missing)
    yield request.param
    assert missing.is_set() == (request.param == "walk")


def reason(found: Opened | Refused) -> str:
    assert isinstance(found, Refused)
    return found.reason


def test_regular_file_is_opened_with_its_identity(proc: Path, way: str) -> None:
    found = open_in_root(7, "/lib/a.so", proc)
    assert isinstance(found, Opened)
    with found:
        known = (proc / "7/root/lib/a.so").stat()
        assert found.identity == Identity(known.st_dev, known.st_ino, 6, known.st_mtime_ns)
        assert found.read(2, 100) == b"side"
        assert found.read(99, 1) == found.read(-1, 1) == found.read(0, -1) == found.read(2**63, 1) == b""
        assert not os.get_inheritable(found.fd)
    assert found.read(0, 1) == b""


def test_symlink_never_leads_out_of_the_root(proc: Path, way: str) -> None:
    root = proc / "7/root"
    (root / "abs").symlink_to(proc.parent / "secret")
    (root / "up").symlink_to("../../../secret")
    (root / "etc").symlink_to("/")
    for path in ("/abs", "/up", "/../../../secret", "/etc/../../../secret"):
        assert reason(open_in_root(7, path, proc)) in ("gone", "escape")


def test_symlink_within_the_root_is_followed(proc: Path) -> None:
    (proc / "7/root/lib64").symlink_to("/lib")
    assert isinstance(open_in_root(7, "/lib64/a.so", proc), Opened)


def test_symlink_loop_is_refused(proc: Path, way: str) -> None:
    (proc / "7/root/x").symlink_to("/x")
    assert reason(open_in_root(7, "/x", proc)) == "escape"


def test_fifo_directory_and_device_are_refused_at_once(proc: Path, way: str) -> None:
    os.mkfifo(proc / "7/root/fifo")
    assert reason(open_in_root(7, "/fifo", proc)) == "not_regular"
    assert reason(open_in_root(7, "/lib", proc)) == "not_regular"
    assert reason(open_in_root(os.getpid(), "/dev/null")) == "not_regular"


def test_size_is_capped(proc: Path) -> None:
    os.truncate(proc / "7/root/lib/a.so", 1 << 40)
    assert reason(open_in_root(7, "/lib/a.so", proc)) == "too_large"


def test_absent_things_are_gone(proc: Path, way: str) -> None:
    assert reason(open_in_root(7, "/nothing", proc)) == "gone"
    assert reason(open_in_root(7, "/lib/a.so/below", proc)) == "gone"
    assert reason(open_in_root(8, "/lib/a.so", proc)) == "gone"
    assert reason(open_in_root(7, "/a\0b", proc)) == "gone"


def test_refusals_leave_no_descriptor_open(proc: Path, way: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/lib", "/nothing", "/lib/a.so/below", "/../x", "/lib/a.so"):
        open_in_root(7, path, proc)
    assert len(os.listdir("/proc/self/fd")) == before
