"""No kernel is compiled while a probe is attached: all come with the import, and from the second start on the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .dialogue import Dialogue

ATTACH = """
import json, sys
from excise_agent._numba_cache import compiled_kernels, pin_numba_cache
pin_numba_cache()
from numba.core import event
from excise.cli import load_rules
seen = []
with event.install_recorder("numba:compile") as imports, compiled_kernels(seen.append):
    from excise_agent.attach_command import run_attach
with event.install_recorder("numba:compile") as later:
    run_attach(int(sys.argv[1]), 1.5, 99.0, None, children=True, record=sys.argv[2], rules=load_rules(()), quiet=True)
names = lambda recorder: sorted({str(e.data["dispatcher"]) for _, e in recorder.buffer})
print(json.dumps({"notices": seen, "imports": names(imports), "later": names(later)}))
"""


def test_kernels_are_compiled_with_the_first_import_and_never_while_attached(tmp_path: Path) -> None:
    with Dialogue("waits.py", "pipe") as target:
        target.hear()

        def attach() -> dict[str, list[str]]:
            done = subprocess.run(
                [sys.executable, "-c", ATTACH, str(target.pid), str(tmp_path / "run.excise")], text=True,
                stdout=subprocess.PIPE, check=True, env={**os.environ, "CACHE_DIRECTORY": str(tmp_path / "cache")})
            (tmp_path / "run.excise").unlink()
            told: dict[str, list[str]] = json.loads(done.stdout)
            return told

        first, second = attach(), attach()
    assert any("drain" in name for name in first["imports"])
    assert first["notices"] == ["compiling (once per machine)..."]
    assert first["later"] == []
    assert second == {"notices": [], "imports": [], "later": []}
