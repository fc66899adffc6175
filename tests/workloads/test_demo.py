"""The demo from end to end, with a stand-in for `excise attach`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import demo
import pytest

from excise.names import STAGES

STAND_IN = f"""#!{sys.executable}
import json, os, sys, time
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "attach" and os.path.exists("/proc/" + options["--pid"])
time.sleep(0.2)
start = time.monotonic_ns()
time.sleep(1)
stages = {{name: {{"running_user": 0, "gil": None}} for name in {STAGES!r}}}
stages["compute"]["running_user"], stages["idle"]["running_user"] = 3, 9
stages["logging"]["running_user"] = 1
with open(options["--json"], "w") as file:
    json.dump({{"window": {{"start_mono_ns": start, "duration_ns": 10**9}}, "stages": stages}}, file)
print("attached for", options["--duration"])
"""


def stand_in(folder: Path, text: str) -> Path:
    path = folder / "excise"
    path.write_text(text)
    path.chmod(0o755)
    return path


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_the_demo_prints_both_clocks_and_stops_what_it_started(tmp_path: Path,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    (tmp_path / "kept").mkdir()
    assert demo.show(tmp_path / "kept", stand_in(tmp_path, STAND_IN), "1s") == 0
    out = capfd.readouterr().out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert "attached for 1s" in out
    assert rows["compute"][1] == "75.0%" and rows["logging"][1] == "25.0%"
    timed = [float(rows[stage][2].rstrip("%")) for stage in demo.FOUR]
    assert all(share > 1 for share in timed) and 80 < sum(timed) <= 100
    measured = json.loads(out.split("Load: ")[1].splitlines()[0])
    assert measured["requests"] > 0 and measured["failures"] == 0
    assert children() == before
    assert (tmp_path / "kept" / "report.json").exists()


def test_a_failed_attach_is_the_demos_exit_status(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    assert demo.show(tmp_path, stand_in(tmp_path, "#!/bin/sh\nexit 7\n"), "1s") == 7
    assert "exit status 7" in capfd.readouterr().err
    assert children() == before
