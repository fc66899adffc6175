"""What each capability of the service is for: all together do what root does, and without one a named thing is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import SET, Sandbox

KERNEL = "_[k]"  # how the folded stacks mark a kernel function


@dataclass
class Attached:
    report: dict[str, Any]
    stacks: str  # folded

    @property
    def names(self) -> set[str]:
        frames = {frame for line in self.stacks.splitlines() for frame in line.rpartition(" ")[0].split(";")[2:]}
        return {frame.partition(" (")[0] for frame in frames}


def attach(sandbox: Sandbox, target: int, capabilities: tuple[str, ...]) -> Attached:
    report, stacks = sandbox.out / "report.json", sandbox.out / "stacks.folded"
    for path in (report, stacks):
        path.unlink(missing_ok=True)
    done = sandbox.run(
        capabilities, "attach", "--pid", str(target), "--duration", "1.5s", "--rate", "397", "--budget", "none",
        "--json", str(report), "--folded", str(stacks), "--quiet",
    )
    assert done.returncode == 0, done.stderr
    return Attached(json.loads(report.read_text()), stacks.read_text())


def test_the_set_sees_what_root_sees(sandbox: Sandbox, target: int) -> None:
    seen = attach(sandbox, target, SET)
    assert {"prepare_input", "main", "<module>"} <= seen.names  # Python
    assert {"in_the_closed_one", "in_the_deleted_one"} <= seen.names  # native
    assert {name for name in seen.names if name.endswith(KERNEL)} & {"do_syscall_64_[k]", "x64_sys_call_[k]"}
    # and the ledger closes
    for thread in seen.report["threads"]:
        states = sum(sum(stage.values()) for stage in seen.report["stages"].values())
        assert states == pytest.approx(thread["lifetime_ns"], rel=0.001)
    assert seen.report["quality"]["samples"] > 100


def test_the_set_is_all_that_doctor_asks_for(sandbox: Sandbox) -> None:
    done = sandbox.run(SET, "doctor", "--json")
    said = json.loads(done.stdout)
    rows = {check["name"]: check for check in said["checks"]}
    assert done.returncode == 0
    assert said["attach"] == "bpf"
    for name in ("capabilities", "bpf", "timer", "target", "perf_events", "kernel_symbols", "probe_cache",
                 "numba_cache"):
        assert rows[name]["status"] == "ok", rows[name]


@pytest.mark.parametrize("without", ["bpf", "perfmon"])
def test_without_bpf_or_perfmon_it_says_what_is_needed(without: str, sandbox: Sandbox, target: int) -> None:
    held = tuple(name for name in SET if name != without)
    done = sandbox.run(held, "attach", "--pid", str(target), "--duration", "1s")
    assert done.returncode == 3
    assert "CAP_BPF, CAP_PERFMON" in done.stderr


@pytest.mark.parametrize(("without", "lost"), [
    ("sys_ptrace", {"prepare_input", "in_the_closed_one", "in_the_deleted_one"}),
    # /proc/PID/mem and map_files are their owner's: this right, and not only CAP_SYS_PTRACE, opens them
    ("dac_read_search", {"prepare_input", "in_the_closed_one", "in_the_deleted_one"}),
    ("checkpoint_restore", {"in_the_deleted_one"}),
])
def test_each_other_right_gives_names(without: str, lost: set[str], sandbox: Sandbox, target: int) -> None:
    seen = attach(sandbox, target, tuple(name for name in SET if name != without))
    known = {"prepare_input", "in_the_closed_one", "in_the_deleted_one"}
    assert known - seen.names == lost
    # totals do not hang on it
    assert seen.report["quality"]["samples"] > 100


def test_compiler_takes_nothing_from_the_current_folder(sandbox: Sandbox, target: int) -> None:
    folder = sandbox.folder / "planted"
    folder.mkdir()
    (folder / "msgpack.py").write_text(f"open({str(sandbox.out / 'taken')!r}, 'w')\n")
    for probes in sandbox.cache.glob("probes-*"):
        probes.unlink()
    done = sandbox.run(SET, "attach", "--pid", str(target), "--duration", "200ms", "--quiet", cwd=str(folder))
    assert done.returncode == 0, done.stderr
    assert "compiling" in done.stderr
    assert not (sandbox.out / "taken").exists()


def test_cache_that_another_user_owns_is_not_taken(sandbox: Sandbox) -> None:
    theirs = sandbox.folder / "theirs"
    theirs.mkdir()
    sandbox_of_theirs = Sandbox(sandbox.folder)
    sandbox_of_theirs.cache = theirs
    done = sandbox_of_theirs.run(SET, "doctor", "--json")
    rows = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert rows["numba_cache"]["status"] == "degraded"
    assert not list(theirs.iterdir())
