"""The agent in a pid namespace of its own, as in a container; and a target in one, seen from the host."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cpython.conftest import CHAIN

IN_NAMESPACE = f"""
import json, subprocess, sys
target = subprocess.Popen([sys.executable, {str(CHAIN)!r}, "spin"], stdout=subprocess.PIPE)
expect = json.loads(target.stdout.readline())["expect"]
done = subprocess.run([sys.executable, "-m", "excise_agent.cli", "attach", "--pid", str(target.pid), "--duration", "1s",
                       "--quiet", "--json", "-"], stdout=subprocess.PIPE)
target.kill()
print(json.dumps({{"code": done.returncode, "pid": target.pid, "expect": expect, "report": json.loads(done.stdout)}}))
"""


def test_agent_in_another_pid_namespace_matches_its_targets_there() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", IN_NAMESPACE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["code"] == 0, done.stderr
    assert said["pid"] < 100  # a number of the new namespace
    (process,) = said["report"]["target"]["processes"]
    assert process["pid"] == said["pid"]
    assert process["host_pid"] not in (None, process["pid"])
    stacks = [[[f["name"], f["line"]] for f in s["frames"] if f["kind"] == "python"] for s in said["report"]["stacks"]]
    assert said["expect"] in stacks


def test_target_in_another_pid_namespace_is_walked_from_the_host(tmp_path: Path) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, str(CHAIN), "sleep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as unshare:
        assert unshare.stdout is not None
        expect = json.loads(unshare.stdout.readline())["expect"]
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "excise_agent.cli", "attach", "--pid", str(unshare.pid), "--duration", "1s"]
        subprocess.run([*command, "--quiet", "--json", str(report)], check=True, timeout=120)
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        subprocess.run(["kill", "-9", *children], check=True)
    said = json.loads(report.read_text())
    inner = [p for p in said["target"]["processes"] if p["pid"] != unshare.pid]
    assert [p["ns_pid"] for p in inner] == [1]
    stacks = [[[f["name"], f["line"]] for f in s["frames"] if f["kind"] == "python"] for s in said["stacks"]]
    assert expect in stacks
