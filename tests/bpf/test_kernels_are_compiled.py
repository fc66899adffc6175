"""No kernel is compiled while a probe is in the kernel: all come with the import, and later starts find them cached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .dialogue import Dialogue

ATTACH = """
import json, os, sys
from excise_agent.cli import cli
from numba.core import event

def holds_programs():
    held = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:     # that of the listing itself
            continue
    return "anon_inode:bpf-prog" in held

class Compilations(event.Listener):
    before, after = [], []
    def on_start(self, started):
        (self.after if holds_programs() else self.before).append(str(started.data["dispatcher"]))
    def on_end(self, ended):
        pass

event.register("numba:compile", Compilations())
cli(["attach", *sys.argv[1:]], standalone_mode=False)
print(json.dumps({"before": Compilations.before, "after": Compilations.after}))
"""


def test_kernels_are_compiled_with_the_first_import_and_never_while_attached(tmp_path: Path) -> None:
    with Dialogue("waits.py", "pipe") as target:
        target.hear()

        def attach(run: str) -> tuple[dict[str, list[str]], str]:
            out = tmp_path / run
            options = ["--pid", str(target.pid), "--duration", "1500ms", "--quiet", "--record", f"{out}.excise",
                       "--summaries", f"{out}.summaries", "--json", f"{out}.json"]
            done = subprocess.run([sys.executable, "-c", ATTACH, *options], text=True, capture_output=True,
                                  env={**os.environ, "CACHE_DIRECTORY": str(tmp_path / "cache")})
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout), done.stderr

        (first, said_first), (second, said_second) = attach("first"), attach("second")
    assert any("drain" in name for name in first["before"]) and first["after"] == []
    assert "compiling (once per machine)" in said_first
    assert second == {"before": [], "after": []}
    assert "compiling" not in said_second
