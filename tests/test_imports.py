"""Imports point one way: excise_agent -> excise, and only the agent may need the host."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOST_ONLY = {"excise_agent", "bcc", "pynvml", "psutil"}
PURE = sorted((ROOT / "src/excise").rglob("*.py"))


def imported(source: str) -> set[str]:
    """Top-level names of every import, wherever it stands; also of importlib.import_module("...")."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value.split(".")[0])
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda p: str(p.relative_to(ROOT)))
def test_pure_package_does_not_reach_for_the_host(path: Path) -> None:
    assert not imported(path.read_text()) & HOST_ONLY


def test_pure_package_was_found() -> None:
    assert ROOT / "src/excise/names.py" in PURE


@pytest.mark.parametrize("line", [
    "import bcc", "from psutil import Process", "import pynvml as nv", "from excise_agent.maps import Maps",
    "def f():\n    import bcc.table", "__import__('psutil')",
    "import importlib\nimportlib.import_module('bcc')",
])
def test_every_way_to_import_is_seen(line: str) -> None:
    assert imported(line) & HOST_ONLY
