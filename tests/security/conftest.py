"""The agent as it runs, beside targets and receivers that mean it no good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from security.running_agent import RunningAgent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that only we write to: pytest's own are below a folder that is shared."""
    os.chmod(tmp_path, 0o700)
    return tmp_path


@pytest.fixture
def agent(folder: Path) -> Iterator[RunningAgent]:
    """Not started yet."""
    running = RunningAgent(folder)
    try:
        yield running
    finally:
        running.kill()
