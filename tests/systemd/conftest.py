"""One package, one machine: built and booted once for all tests here, which run in their order."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .rig import Base, Machine

ROOT = Path(__file__).parents[2]
BUILD_DEADLINE_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/systemd/" in str(item.path):
            item.add_marker(pytest.mark.bpf)


@dataclass(frozen=True)
class Package:
    deb: Path
    lint: subprocess.Popen[str]  # lintian, at work: 30 s of CPU


@pytest.fixture(scope="session")
def base() -> Iterator[Base]:
    made = Base()
    yield made
    made.close()


@pytest.fixture(scope="session")
def package(base: Base) -> Iterator[Package]:
    """What `make deb` makes, while `base` is made beside it."""
    built = subprocess.run(
        [ROOT / "packaging/deb/build.sh"], capture_output=True, text=True, check=False, timeout=BUILD_DEADLINE_S
    )
    assert built.returncode == 0, built.stderr[-4000:]
    (deb,) = (ROOT / "dist").glob("excise_*.deb")
    lint = subprocess.Popen(
        ["lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", deb],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    yield Package(deb, lint)
    if lint.poll() is None:
        lint.kill()
    lint.communicate()


@pytest.fixture(scope="session")
def machine(base: Base, package: Package) -> Iterator[Machine]:
    """Booted, and nothing of ours in it but the package's file: /root/excise.deb."""
    made = Machine.boot(base.wait())
    try:
        os.link(package.deb, made.root / "root/excise.deb")
    except OSError:
        (made.root / "root/excise.deb").write_bytes(package.deb.read_bytes())
    yield made
    made.close()
