from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from native_program import SOURCE, Program, nm


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("program")
    source, path = folder / "shop.cpp", folder / "shop with space"
    source.write_text(SOURCE)
    subprocess.run(["g++", "-O1", "-fPIE", "-pie", "-Wl,--build-id", "-o", path, source], check=True)
    return Program(path, nm(path))


@pytest.fixture
def start() -> Iterator[Callable[[Path], int]]:
    """Starts a program, waits until it is ready, gives its pid; ends it after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def go(path: Path) -> int:
        child = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(child)
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"ready")
        return child.pid

    yield go
    for child in running:
        child.communicate(b"x", timeout=10)
