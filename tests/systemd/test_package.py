"""The package's file, before anybody installs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .conftest import Package

ROOT = Path(__file__).parents[2]


def listed(deb: Path) -> list[str]:
    text = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, text=True, check=True).stdout
    return [line.split(maxsplit=5)[5] for line in text.splitlines()]


def test_version_is_the_projects(package: Package) -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    said = subprocess.run(["dpkg-deb", "--field", package.deb, "Version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == version.group(1)


def test_everything_is_roots_and_nothing_is_writable_by_others(package: Package) -> None:
    text = subprocess.run(["dpkg-deb", "--contents", package.deb], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode[0] == "l" or (mode[5] == "-" and mode[8] == "-"), line


def test_it_has_unit_configuration_pages_and_completions(package: Package) -> None:
    files = {path.removeprefix(".") for path in listed(package.deb)}
    assert {
        "/usr/bin/excise", "/lib/systemd/system/excise.service", "/usr/lib/sysusers.d/excise.conf",
        "/etc/excise/config.toml", "/usr/share/man/man1/excise.1.gz", "/usr/share/man/man1/excise-attach.1.gz",
        "/usr/share/bash-completion/completions/excise", "/usr/share/zsh/vendor-completions/_excise",
        "/usr/share/fish/vendor_completions.d/excise.fish", "/usr/share/doc/excise/copyright",
    } <= files


def test_it_has_no_tests_bytecode_or_name_of_the_folder_it_was_built_in(package: Package, tmp_path: Path) -> None:
    paths = listed(package.deb)
    assert [path for path in paths if path.endswith((".pyc", ".pyi", ".h")) and "/probes/" not in path] == []
    assert [path for path in paths if re.search(r"/(tests?|__pycache__)/$", path)] == []
    subprocess.run(["dpkg-deb", "--extract", package.deb, tmp_path], check=True)
    here = str(ROOT).encode()
    texts = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()
             and path.stat().st_size < 1 << 20]
    assert [path for path in texts if here in path.read_bytes()] == []
